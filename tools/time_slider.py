"""From a key press on the slider to the picture, in a real browser.

    python tests/time_slider.py [MOVES]

For every method of the course with its shipped weights, medians over MOVES moves (30)
of the slider by one key: until the first picture stands there, and until the finished
one does. Then 1,000 moves one after the other, and what they add to the memory of the
kernel (Linux only). Nothing else should run meanwhile.
"""

import resource
import statistics
import sys
import tempfile
from pathlib import Path

import nbformat
from notebook_tools import faults
from test_browser import open_notebook, run_all, running_browser, running_lab

from asr_course.lessons.side_by_side import METHODS

CELL = f"""
import os
from asr_course.images import sample_photo
from asr_course.weights import load_pretrained
from asr_course.widgets import ScaleExplorer

models = {{name: load_pretrained(name) for name in {METHODS!r}}}
display(ScaleExplorer(models, sample_photo("chelsea")))
print(os.getpid())
"""
WATCH = """() => {
  const img = document.querySelector("img.asr-picture");
  window.asr = {pressed: 0, loads: []};
  document.addEventListener("keydown", () => {
    window.asr = {pressed: performance.now(), loads: []};
  }, true);
  img.addEventListener("load", () => window.asr.loads.push(
    [performance.now(), img.getAttribute("aria-busy") === "true"]));
}"""
DONE = "() => window.asr.loads.some(([when, busy]) => !busy)"
READ = """() => {
  const {pressed, loads} = window.asr;
  const whole = loads.find(([when, busy]) => !busy);
  return [loads[0][0] - pressed, whole[0] - pressed];
}"""


def moves(page, handle, count: int) -> list[tuple[float, float]]:
    """Milliseconds to the first and to the finished picture, move by move."""
    found = []
    for k in range(count):
        handle.press("ArrowRight" if k % 20 < 10 else "ArrowLeft")
        page.wait_for_function(DONE, timeout=30_000, polling=20)
        found.append(tuple(page.evaluate(READ)))
        page.wait_for_timeout(50)
    return found


def megabytes(process: int) -> float:
    """Memory that a process holds (Linux)."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize() / 2**20


def main(count: int = 30) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        running_lab(Path(name)) as (address, served),
        running_browser() as browser,
    ):
        notebook = nbformat.v4.new_notebook()
        notebook.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3 (ipykernel)",
        }
        notebook.cells = [nbformat.v4.new_code_cell(CELL)]
        path = served / "slider.ipynb"
        nbformat.write(notebook, path)
        page, _ = open_notebook(browser, address, path.name)
        run_all(page, path)
        executed = nbformat.read(path, as_version=4)
        assert faults(executed) == []
        outputs = executed.cells[0].outputs
        kernel = int("".join(o.get("text", "") for o in outputs))
        page.locator("img.asr-picture").wait_for()
        handle = page.locator(".noUi-handle, .slider-container [role=slider]").first
        page.evaluate(WATCH)
        print("method   first picture   finished   (ms, median of", count, "moves)")
        for method in METHODS:
            page.get_by_role("button", name=method, exact=True).click()
            page.wait_for_timeout(3000)
            handle.focus()
            moves(page, handle, 5)
            first, whole = zip(*moves(page, handle, count), strict=True)
            print(
                f"{method:8} {statistics.median(first):13.0f} "
                f"{statistics.median(whole):10.0f}",
                flush=True,
            )
        before = megabytes(kernel)
        for k in range(1000):
            handle.press("ArrowRight" if k % 200 < 100 else "ArrowLeft")
            page.wait_for_timeout(40)
        page.wait_for_timeout(2000)
        after = megabytes(kernel)
        print(
            f"memory of the kernel: {before:.0f} MB, after 1,000 moves {after:.0f} MB"
        )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
