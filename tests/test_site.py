"""The website in a real browser: its explorer decodes, and its pages are whole.

Needs Chromium and _site/ (make site); skipped without them, unless ASR_REQUIRE_SITE is
set.
"""

import functools
import http.server
import io
import os
import re
import threading
from base64 import b64decode
from html.parser import HTMLParser
from urllib.parse import unquote, urldefrag, urljoin

import nbformat
import numpy as np
import pytest
import torch
from helpers import ROOT, picture
from PIL import Image

from asr_course import load_pretrained, sample_photo, to_pixels, to_tensor
from asr_course.coords import output_size
from asr_course.images import resize
from asr_course.render import Totals, decode_rows, encode
from asr_course.view import EVERY

SITE = ROOT / "_site"
if not (SITE / "index.html").exists() and not os.environ.get("ASR_REQUIRE_SITE"):
    pytest.skip("no _site/ here: run `make site`", allow_module_level=True)

from test_browser import (  # noqa: E402, F401  (browser is a fixture)
    browser,
    running_browser,
    state,
    wait_for_change,
    wait_until,
)

PAGES = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob("*.html"))
PAGES = [page for page in PAGES if not page.startswith("_static")]
# The pixels of a canvas, by its number, as text that is short to bring here.
PIXELS = """k => { const c = document.querySelectorAll(".asr-panels canvas")[k];
  const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  const text = Array.from(d, (byte) => String.fromCharCode(byte)).join("");
  return [c.height, c.width, btoa(text)]; }"""
RESIZE = """async ([rows, cols, data, size]) => {
  const {resize} = await import("/live/resize.js");
  return Array.from(resize({rows, cols, data: Uint8Array.from(data)}, size).data); }"""


class Handler(http.server.SimpleHTTPRequestHandler):
    """A plain server of files, without any header of its own."""

    def log_message(self, *words):
        pass


@pytest.fixture(scope="module")
def address():
    handler = functools.partial(Handler, directory=SITE)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def asked():
    """Addresses that pages asked for, on other machines."""
    return []


@pytest.fixture(scope="module")
def context(browser, address, asked):  # noqa: F811
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.set_default_timeout(60_000)

    def guard(route):
        if not route.request.url.startswith((address, "data:", "blob:")):
            asked.append(route.request.url)
            return route.abort()
        return route.continue_()

    context.route("**/*", guard)
    yield context
    context.close()


@pytest.fixture(scope="module")
def home(context, address):
    page = context.new_page()
    page.goto(address)
    page.locator(".asr-explorer[data-busy=false][data-version]").wait_for()
    return page


def press(page, name: str, what: str = "version") -> dict:
    before = state(page)
    page.locator(".asr-explorer").get_by_role("button", name=name, exact=True).click()
    return wait_for_change(page, before, what)


def pixels(page, number: int) -> np.ndarray:
    """The pixels of a panel: (rows, cols, 3) uint8."""
    rows, cols, text = page.evaluate(PIXELS, number)
    flat = np.frombuffer(b64decode(text), np.uint8)
    return flat.reshape(rows, cols, 4)[..., :3]


def steps_apart(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference of two pictures, in steps of 255."""
    return int(np.abs(a.astype(int) - b).max())


@torch.no_grad()
def by_torch(name: str, lr: np.ndarray, scale: float, window) -> np.ndarray:
    model, x = load_pretrained(name), to_tensor(lr)
    size, encoded = output_size(lr.shape[:2], scale), encode(model, x)
    totals = Totals(model, lambda: [(encoded, window)], size, every=EVERY)
    rows = decode_rows(model, encoded, size, window, totals)
    return to_pixels(torch.cat([row[1] for row in rows if row], dim=1))


def test_every_method_draws_what_pytorch_draws(home):
    """At a scale that is not whole, in the picture's corner; bicubic is Pillow's."""
    photo = sample_photo("astronaut")
    lr = resize(photo, (128, 128))
    home.get_by_label("scale, typed").fill("3.7")
    home.get_by_label("scale, typed").press("Enter")
    home.locator(".asr-explorer[data-scale='3.7']").wait_for()
    corner = home.locator(".asr-input").bounding_box()
    before = state(home)
    home.mouse.click(
        corner["x"] + corner["width"] - 2, corner["y"] + corner["height"] - 2
    )
    now = wait_for_change(home, before, "window")
    for label in ("LIIF", "DIINN", "DIIF", "HIIF", "DIIN"):
        if label != "LIIF":
            now = press(home, label)
        top, left, rows, cols = window = tuple(map(int, now["window"].split()))
        assert (top + rows, left + cols) == output_size((128, 128), 3.7)
        name = "liif-recipe" if label == "LIIF" else label.lower()
        assert steps_apart(pixels(home, 1), by_torch(name, lr, 3.7, window)) <= 1, label
        crop = slice(top, top + rows), slice(left, left + cols)
        size = output_size((128, 128), 3.7)
        assert steps_apart(pixels(home, 0), resize(lr, size)[crop]) == 0
        assert steps_apart(pixels(home, 2), resize(photo, size)[crop]) == 0
    assert "dB" in home.locator(".asr-panels figcaption").nth(1).inner_text()
    press(home, "LIIF")
    press(home, "reset")


@pytest.mark.parametrize("size", [(9, 12), (23, 31), (61, 50), (117, 8)])
def test_it_resizes_as_pillow_does(home, size):
    image = picture(31, 40)
    rgba = np.dstack([image, np.full((31, 40), 255, np.uint8)])
    made = home.evaluate(RESIZE, [31, 40, rgba.ravel().tolist(), list(size)])
    made = np.array(made).reshape(*size, 4)[..., :3]
    assert steps_apart(made, resize(image, size)) == 0


def test_a_drag_moves_the_window(home):
    now = press(home, "×8")
    box = home.locator(".asr-box").first.bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    home.mouse.move(x, y)
    home.mouse.down()
    home.mouse.move(x - 40, y - 20, steps=20)
    home.mouse.up()
    wait_for_change(home, now, "window")
    press(home, "reset")


def test_the_keyboard_is_enough_and_nothing_moves_by_itself(browser, address):  # noqa: F811
    page = browser.new_page(reduced_motion="reduce")
    page.goto(address)
    page.locator(".asr-explorer[data-busy=false][data-version]").wait_for()
    places = {".asr-slider": ("ArrowRight", "scale"), ".asr-panels": ("+", "scale")}
    for place, (key, what) in (places | {"*": ("ArrowDown", "window")}).items():
        now = state(page)
        while not page.evaluate("s => document.activeElement.matches(s)", place):
            page.keyboard.press("Tab")
        page.keyboard.press(key)
        wait_for_change(page, now, what)
        look = page.evaluate("getComputedStyle(document.activeElement).outlineColor")
        assert look == "rgb(230, 159, 0)"
    assert page.evaluate("document.getAnimations().length") == 0
    page.close()


def test_a_photograph_of_ones_own_and_a_file_that_is_none(home):
    status = home.locator(".asr-status")
    choose = home.locator(".asr-explorer input[type=file]")
    choose.set_input_files({"name": "a.txt", "mimeType": "", "buffer": b"words"})
    home.locator(".asr-error").wait_for()
    assert "a.txt is no picture" in status.inner_text()
    photo, before = io.BytesIO(), state(home)
    Image.fromarray(picture(300, 200)).save(photo, "PNG")
    file = {"name": "b.png", "mimeType": "image/png", "buffer": photo.getvalue()}
    choose.set_input_files(file)
    wait_for_change(home, before, "version")
    wait_until(home, lambda: "192×128 → 768×512" in status.inner_text(), "status")
    assert home.locator(".asr-panels canvas").count() == 2  # there is no truth
    home.get_by_label("shrink the photograph first").check()
    wait_until(home, lambda: "75×50 → 300×200" in status.inner_text(), "status")
    assert home.locator(".asr-panels canvas").count() == 3


def test_what_is_missing_is_told(context, address):
    page = context.new_page()
    page.route("**/diif/*.onnx", lambda route: route.fulfill(status=404))
    page.goto(address)
    page.locator(".asr-explorer[data-busy=false][data-version]").wait_for()
    page.get_by_role("button", name="DIIF", exact=True).click()
    page.locator(".asr-error").wait_for()
    assert "diif" in page.locator(".asr-error").inner_text()
    press(page, "LIIF")
    page.close()


def test_without_a_web_server_it_shows_the_pictures_and_says_why(browser):  # noqa: F811
    page = browser.new_page()
    for name in ("index.html", "notebooks/03_diif.html"):
        page.goto((SITE / name).as_uri())
        page.wait_for_timeout(500)
        assert "web server" in page.locator(".asr-live").inner_text()
        assert page.locator(".asr-explorer").count() == 0
        images = page.locator(".bd-article img").first
        assert images.evaluate("i => i.naturalWidth") > 300
    page.close()


@pytest.mark.parametrize("number", range(1, 8))
def test_notebooks_render(context, address, number):
    """Formulas, tables, alt texts, a live explorer; nothing wider than a phone."""
    name = next(p for p in PAGES if p.startswith(f"notebooks/0{number}_"))
    page = context.new_page()
    page.goto(address + name)
    page.wait_for_function("window.MathJax?.startup?.promise")
    page.evaluate("MathJax.startup.promise")
    assert page.locator("mjx-container").count() >= 10
    assert page.locator("mjx-merror, [data-mjx-error]").count() == 0
    assert page.locator(".bd-article table").count() >= 3
    built = ROOT / "site" / "build" / "source" / name.replace("html", "ipynb")
    cells = nbformat.read(built, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    shown = [o for o in outputs if "<img" in o.get("data", {}).get("text/html", "")]
    assert page.locator(".cell_output img").count() == len(shown)
    for image in page.locator(".cell_output img").all():
        assert len(image.get_attribute("alt")) > 10
        assert ".png" not in image.get_attribute("alt")
    assert page.locator(".asr-live").count() == (number != 6)
    page.set_viewport_size({"width": 390, "height": 800})
    root = "document.documentElement"
    assert page.evaluate(f"{root}.scrollWidth <= {root}.clientWidth")
    if number == 3:
        page.locator(".asr-live").scroll_into_view_if_needed()
        page.locator(".asr-explorer[data-busy=false][data-version]").wait_for()
        box = page.locator(".asr-panels canvas").first.bounding_box()
        assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    page.close()


class Links(HTMLParser):
    """What a page links to, and the places in it that can be linked to."""

    def __init__(self, text: str):
        super().__init__()
        self.links, self.places = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
        self.links += [attributes[k] for k in ("href", "src") if attributes.get(k)]


def test_every_link_leads_somewhere():
    parsed = {name: Links((SITE / name).read_text()) for name in PAGES}
    for name, page in parsed.items():
        for link in page.links:
            if re.match(r"[a-z]+:|//", link):
                continue
            target, place = urldefrag(urljoin(name, link))
            target = unquote(target).split("?")[0] or name
            assert (SITE / target).exists(), f"{name}: {link}"
            if place and target in parsed and place != "":
                assert unquote(place) in parsed[target].places, f"{name}: {link}"


def test_no_page_asks_another_machine(context, address, asked, home):
    page = context.new_page()
    for name in PAGES:
        page.goto(address + name)
    page.close()
    assert asked == []
