"""Widgets that look inside one method, and the curve of a training run."""

from asr_course.probes.diif import SliceExplorer
from asr_course.probes.diin import RateProbe
from asr_course.probes.diinn import BranchProbe
from asr_course.probes.hiif import DigitExplorer
from asr_course.probes.idm import DenoisingPlayer
from asr_course.probes.liif import LatentProbe
from asr_course.probes.tools import TrainingCurve

__all__ = [
    "BranchProbe",
    "DenoisingPlayer",
    "DigitExplorer",
    "LatentProbe",
    "RateProbe",
    "SliceExplorer",
    "TrainingCurve",
]
