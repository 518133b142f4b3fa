"""The explorer's page in JupyterLab and a real browser: what explorer.js does.

Needs Chromium, as test_browser.py does.
"""

import io

import nbformat
import pytest
from PIL import Image
from test_browser import (  # noqa: F401  (lab and browser are fixtures)
    browser,
    lab,
    open_notebook,
    state,
    wait_for_change,
    wait_until,
)

WIDTHS = (390, 800, 1280, 1920, 2560)
CELL = """
import asr_course as asr
models = {name: asr.load_pretrained(name.lower()) for name in ("LIIF", "HIIF")}
asr.ScaleExplorer(models, asr.sample_photo("astronaut"))
"""
LONG = "import time\nfor _ in range(80):\n    time.sleep(0.1)"
PLACES = """root => [...root.querySelectorAll(".asr-panels figure")].map(figure => {
  const canvas = figure.querySelector("canvas");
  const [words, picture] = [figure.firstChild, canvas].map(
    (e) => e.getBoundingClientRect());
  return {words: figure.firstChild.textContent, under: picture.top - words.bottom,
          shift: picture.left - words.left, factor: picture.width / canvas.width,
          right: picture.right, top: picture.top};
})"""


@pytest.fixture(scope="module")
def page(lab, browser):  # noqa: F811
    """A page with an explorer, and a cell that runs for eight seconds."""
    address, folder = lab
    cells = [nbformat.v4.new_code_cell(source) for source in (CELL, LONG)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)"}
    notebook.metadata["kernelspec"] = kernel
    nbformat.write(notebook, folder / "explorer.ipynb")
    page, refused = open_notebook(browser, address, "explorer.ipynb")
    run_first(page)
    yield page
    assert refused == []
    page.close()


def run_first(page) -> None:
    page.locator(".jp-CodeCell").first.click()
    page.keyboard.press("Shift+Enter")
    page.locator(".asr-explorer[data-version]").wait_for(timeout=60_000)


def press(page, name: str, what: str = "scale") -> dict:
    """Press a button; the state after it."""
    before = state(page)
    page.locator(".asr-explorer").get_by_role("button", name=name, exact=True).click()
    return wait_for_change(page, before, what)


def captions(page) -> list[str]:
    return page.locator(".asr-panels figcaption").all_text_contents()


def test_titles_stand_over_their_panels_at_every_width(page):
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1000})
        if width == 390:
            page.keyboard.press("Control+b")  # close the file browser
        page.wait_for_timeout(1200)
        state(page)
        root = page.locator(".asr-explorer")
        places = root.evaluate(PLACES)
        heads = [place["words"].split(" ")[0] for place in places]
        assert heads == ["bicubic", "LIIF", "truth"]
        for place in places:
            assert abs(place["shift"]) < 1 and 0 <= place["under"] < 8, width
            assert place["factor"] == round(place["factor"]) >= 1, width
            assert place["right"] <= width, width
        box = page.locator(".asr-slider").bounding_box()
        assert box["width"] >= 150 and box["x"] + box["width"] <= width
        assert root.evaluate("root => root.scrollWidth <= root.clientWidth")
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.wait_for_timeout(800)


def test_keys_buttons_and_numbers_set_the_scale(page):
    assert press(page, "×8")["scale"] == "8"
    slider, before = page.locator(".asr-slider"), state(page)
    slider.focus()
    slider.press("ArrowRight")
    after = wait_for_change(page, before, "scale")
    assert 8 < float(after["scale"]) < 8.3
    assert slider.get_attribute("aria-valuetext") == after["scale"]
    field = page.get_by_label("scale, typed")
    field.fill("2.5")
    field.press("Enter")
    assert wait_for_change(page, after, "scale")["scale"] == "2.5"
    assert press(page, "reset")["scale"] == "4"


def test_drag_keys_and_wheel_move_the_window(page):
    before = press(page, "×8")
    box = page.locator(".asr-box").nth(1).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 40, y - 20, steps=4)
    page.mouse.up()
    dragged = wait_until(page, lambda: moved_by(page, before, 20, 40), "the window")
    cells = page.locator(".jp-Cell").count()
    for key in ("b", "x", "d", "d", "ArrowUp"):
        page.keyboard.press(key)
    top, left, rows, _ = map(
        int, wait_for_change(page, dragged, "window")["window"].split()
    )
    assert top == int(dragged["window"].split()[0]) - rows // 8
    assert page.locator(".jp-Cell").count() == cells  # letters stay on the picture
    at = (top + rows / 4) / 1024, (left + rows / 4) / 1024
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + box["height"] / 4)
    page.mouse.wheel(0, -120)
    zoomed = wait_for_change(page, dragged, "scale")
    assert float(zoomed["scale"]) > 8
    top, left, rows, _ = map(int, zoomed["window"].split())
    size = round(128 * float(zoomed["scale"]))
    now = (top + rows / 4) / size, (left + rows / 4) / size
    assert max(abs(a - b) for a, b in zip(at, now, strict=True)) < 0.004
    press(page, "reset")


def moved_by(page, before: dict, rows: int, cols: int) -> dict | None:
    """The state if the window has moved by so many pixels."""
    now = state(page)
    a, b = (tuple(map(int, s["window"].split()[:2])) for s in (before, now))
    return now if (b[0] - a[0], b[1] - a[1]) == (rows, cols) else None


def test_divider_difference_and_hidden_names(page):
    press(page, "divider", "version")
    handle = page.locator(".asr-handle")
    box, whole = handle.bounding_box(), page.locator(".asr-box").first.bounding_box()
    page.mouse.move(box["x"] + 8, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(whole["x"] + whole["width"] / 4, box["y"] + 50, steps=3)
    page.mouse.up()
    assert handle.get_attribute("aria-valuenow") == "25"
    handle.press("ArrowRight")
    assert handle.get_attribute("aria-valuenow") == "27"
    press(page, "difference", "version")
    assert captions(page)[2].startswith("LIIF − bicubic, 4 times")
    page.locator(".asr-explorer select").select_option("HIIF")
    press(page, "side by side", "version")
    wait_until(page, lambda: captions(page)[0].startswith("HIIF · "), "the left panel")
    assert captions(page)[1].startswith("LIIF · ")
    press(page, "hide names", "version")
    assert sorted(captions(page)[:2]) == ["A", "B"]
    assert "IF" not in page.locator(".asr-explorer").inner_text()
    press(page, "hide names", "version")
    page.locator(".asr-explorer select").select_option("bicubic")


def test_photographs_are_enlarged_and_other_files_refused(page):
    before, photo = state(page), io.BytesIO()
    Image.new("RGB", (90, 60), (200, 60, 60)).save(photo, "PNG")
    choose = page.locator(".asr-explorer input[type=file]")
    choose.set_input_files({"name": "a.txt", "mimeType": "", "buffer": b"words"})
    error = page.locator(".asr-error")
    error.wait_for()
    assert "a.txt" in error.inner_text() and state(page)["version"] == before["version"]
    file = {"name": "b.png", "mimeType": "", "buffer": photo.getvalue()}
    choose.set_input_files(file)
    status = page.locator(".asr-status")
    wait_for_change(page, before, "version")
    wait_until(page, lambda: "60×90 → 240×360" in status.inner_text(), "status")
    assert len(captions(page)) == 2  # there is no truth
    page.get_by_label("shrink the photograph first").check()
    wait_until(page, lambda: len(captions(page)) == 3, "panels")


def test_it_answers_while_a_cell_runs_and_after_a_reload(page):
    page.locator(".jp-CodeCell").nth(1).click()
    page.keyboard.press("Shift+Enter")
    page.wait_for_timeout(500)
    press(page, "×3")
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1000)
    page.wait_for_function("!document.querySelector('.jp-mod-dirty')")  # it is saved
    page.reload()
    page.locator(".asr-explorer[data-version]").wait_for(timeout=60_000)
    assert state(page)["scale"] == "3"
    page.locator(".jp-CodeCell").nth(1).click()
    page.keyboard.press("Escape")
    page.keyboard.press("i")
    page.keyboard.press("i")  # interrupt the kernel
    press(page, "×2")


def test_without_its_kernel_it_says_what_to_do(page):
    """The picture stays; a move that nobody answers is explained."""
    page.locator(".jp-CodeCell").nth(1).click()
    for key in ("Escape", "0", "0"):
        page.keyboard.press(key)
    page.locator(".jp-Dialog").get_by_role("button", name="Confirm").click()
    page.get_by_text("| Idle").wait_for(timeout=60_000)
    page.locator(".asr-explorer").get_by_role("button", name="×8").click()
    page.locator(".asr-status").get_by_text("Shift+Enter").wait_for(timeout=10_000)
    assert page.locator(".asr-panels canvas").count() == 3
    run_first(page)
    assert state(page)["scale"] == "4"
