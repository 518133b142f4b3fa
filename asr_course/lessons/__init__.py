"""What one notebook needs and nobody else: its diagram, its widget, its exercises.

from asr_course.lessons import diif as lesson
group_of = lesson.check("diif.2", group_of)
"""

from asr_course.lessons import diif, diin, diinn, hiif, idm, liif, side_by_side
from asr_course.lessons.base import checker

LESSONS = (liif, diinn, diif, hiif, diin, idm, side_by_side)
EXERCISES = {name: e for lesson in LESSONS for name, e in lesson.EXERCISES.items()}
check = checker(EXERCISES)
