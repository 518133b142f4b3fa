"""From a key press on the slider to the picture, in a real browser.

    python tools/time_slider.py [MOVES]

For every method with its shipped weights, medians over MOVES moves (30) of the slider
by one key: until the first picture is shown, and until the finished one is. Nothing
else should run meanwhile.
"""

import statistics
import sys
import tempfile
from pathlib import Path

import nbformat

from asr_course.lessons.side_by_side import METHODS
from notebooks import ROOT, faults

sys.path.append(str(ROOT / "tests"))
from test_browser import open_notebook, run_all, running_browser, running_lab  # noqa

CELL = f"""
import asr_course as asr
models = {{name: asr.load_pretrained(name) for name in {METHODS!r}}}
display(asr.ScaleExplorer(models, asr.sample_photo("chelsea")))
"""
WATCH = """() => {
  const root = document.querySelector(".asr-explorer");
  window.asr = {pressed: 0, drawn: []};
  document.addEventListener("keydown", () => {
    window.asr = {pressed: performance.now(), drawn: []};
  }, true);
  new MutationObserver(() => window.asr.drawn.push(
    [performance.now(), root.dataset.busy === "true"])
  ).observe(root, {attributeFilter: ["data-version"]});
}"""
DONE = "() => window.asr.drawn.some(([when, busy]) => !busy)"
READ = """() => {
  const {pressed, drawn} = window.asr;
  const whole = drawn.find(([when, busy]) => !busy);
  return [drawn[0][0] - pressed, whole[0] - pressed];
}"""


def moves(page, handle, count: int) -> list[tuple[float, float]]:
    """Milliseconds to the first and to the finished picture, move by move."""
    times = []
    for k in range(count):
        handle.press("ArrowRight" if k % 20 < 10 else "ArrowLeft")
        page.wait_for_function(DONE, timeout=30_000, polling=20)
        times.append(tuple(page.evaluate(READ)))
        page.wait_for_timeout(50)
    return times


def main(count: int = 30) -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        running_lab(Path(name)) as (address, served),
        running_browser() as browser,
    ):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
        kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
        notebook.metadata["kernelspec"] = kernel
        path = served / "slider.ipynb"
        nbformat.write(notebook, path)
        page, _ = open_notebook(browser, address, path.name)
        run_all(page, path)
        assert faults(nbformat.read(path, as_version=4)) == []
        page.locator(".asr-explorer[data-version]").wait_for()
        handle = page.locator(".asr-slider")
        page.evaluate(WATCH)
        print("method   first picture   finished   (ms, median of", count, "moves)")
        for method in METHODS:
            page.get_by_role("button", name=method, exact=True).click()
            page.wait_for_timeout(3000)
            handle.focus()
            moves(page, handle, 5)
            times = zip(*moves(page, handle, count), strict=True)
            first, whole = map(statistics.median, times)
            print(f"{method:8} {first:13.0f} {whole:10.0f}", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
