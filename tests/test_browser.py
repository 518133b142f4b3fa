"""JupyterLab in a real browser: Run All ends well and the slider moves the picture.

Papermill runs all of every notebook (test_notebooks.py); test_explorer.py tries what
the explorer can do. Here notebook 6 runs up to its own widget; with ASR_STRESS=1
all do, and the first one runs whole.

Needs Chromium; without it the test is skipped, unless ASR_REQUIRE_BROWSER is set.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager

import nbformat
import pytest
from helpers import ROOT

from notebooks import NOTEBOOKS, faults

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
TOKEN = "a-token-of-the-test-s-own"
OFF = ("gpu", "quic", "sync", "background-networking", "component-update")
FLAGS = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in OFF)]
FLAGS += ["--disable-dev-shm-usage"]

if not CHROMIUM and not os.environ.get("ASR_REQUIRE_BROWSER"):
    pytest.skip("no Chromium here: browser tests skipped", allow_module_level=True)


RUN_TO = {  # the first cell with these words; notebook 1 runs to its end
    "02_diinn": "display(probe)",
    "03_diif": "SliceExplorer(",
    "04_hiif": "DigitExplorer(",
    "05_diin": "ScaleExplorer(",  # its probe is made as the first two are
    "06_idm": "DenoisingPlayer(",
    "07_side_by_side": "ScaleExplorer(",
}


def smoke_copy(path, folder):
    """A copy of a notebook, to its own widget, in which PRESET = "smoke"."""
    notebook = nbformat.read(path, as_version=4)
    code = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    if path.stem in RUN_TO:
        until = next(source for source in code if RUN_TO[path.stem] in source)
        sources = [cell.source for cell in notebook.cells]
        notebook.cells = notebook.cells[: sources.index(until) + 1]
    for cell in notebook.cells:
        if "parameters" in cell.metadata.get("tags", []):
            assert '"laptop"' in cell.source
            cell.source = cell.source.replace('"laptop"', '"smoke"')
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, folder / path.name)
    return folder / path.name


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A JupyterLab of the test's own: (address, folder it serves)."""
    with running_lab(tmp_path_factory.mktemp("lab"), OMP_NUM_THREADS="1") as running:
        yield running


@contextmanager
def running_lab(folder, **variables):
    """JupyterLab with everything that it writes in `folder`: (address, served)."""
    chosen = json.loads((ROOT / "tools" / "overrides.json").read_text())
    # Keep every cell in the page, also those that are out of sight.
    chosen["@jupyterlab/notebook-extension:tracker"] = {"windowingMode": "none"}
    for name, values in chosen.items():
        place = folder / "settings" / f"{name.replace(':', '/')}.jupyterlab-settings"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(values))
    served = folder / "served"
    served.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]  # nobody listens on it
    places = {f"JUPYTER_{n.upper()}_DIR": n for n in ("config", "data", "runtime")}
    places |= {f"JUPYTERLAB_{n.upper()}_DIR": n for n in ("settings", "workspaces")}
    places = {name: str(folder / place) for name, place in places.items()}
    environment = os.environ | places | variables
    options = [
        *("--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"),
        f"--IdentityProvider.token={TOKEN}",
        "--LabApp.extension_manager=readonly",
        f"--ServerApp.root_dir={served}",
    ]
    command = [sys.executable, "-m", "jupyterlab", *options]
    log = open(folder / "lab.log", "w")  # noqa: SIM115  (closed below)
    server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        for _ in range(120):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail((folder / "lab.log").read_text()[-2000:])
        yield f"http://127.0.0.1:{port}", served
    finally:
        server.terminate()
        server.wait(20)
        log.close()


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium."""
    with running_browser() as running:
        yield running


@contextmanager
def running_browser():
    """Chromium without a window."""
    from playwright.sync_api import sync_playwright

    assert CHROMIUM, "ASR_REQUIRE_BROWSER is set, but there is no Chromium"
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


def open_notebook(browser, address: str, name: str):
    """Open a notebook in Lab, wait for its kernel: (page, addresses refused)."""
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    refused = []

    def guard(route):
        if route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            refused.append(route.request.url)
            route.abort()

    page.route("**/*", guard)
    page.goto(f"{address}/lab/tree/{name}?reset&token={TOKEN}")  # no other tabs
    page.get_by_text("| Idle").wait_for(timeout=90_000)
    return page, refused


def run_all(page, path, timeout: float = 300) -> None:
    """Run > Run All Cells, then wait until the last cell has run and save."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        page.wait_for_timeout(1000)
        page.keyboard.press("Control+s")
        cells = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        failed = [o for c in cells for o in c.outputs if o.output_type == "error"]
        if failed or all(c.execution_count for c in cells if c.source.strip()):
            return
    pytest.fail("Run All did not end in time")


def wait_until(page, changed, what: str, timeout: float = 20):
    """What `changed` returns, as soon as it is true."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        page.wait_for_timeout(100)
        if found := changed():
            return found
    pytest.fail(f"{what} did not change")


def state(page) -> dict:
    """What the explorer shows, once it is finished: its scale and its window."""
    done = page.locator(".asr-explorer[data-busy=false]").first
    done.wait_for()
    return done.evaluate("root => ({...root.dataset})")


def wait_for_change(page, before: dict, what: str) -> dict:
    """The explorer's state once `what` (scale, window, version) has changed."""

    def changed():
        now = state(page)
        return now if now[what] != before[what] else None

    return wait_until(page, changed, f"the explorer's {what}")


def click_the_probe(page) -> None:
    """Click on the probe's picture: it looks there."""
    probe = page.locator("img.asr-picture").first
    probe.scroll_into_view_if_needed()
    before = probe.get_attribute("alt")
    probe.click(position={"x": 30, "y": 200})
    wait_until(page, lambda: probe.get_attribute("alt") != before, "the probe")


def step_through_the_chain(page) -> None:
    """Move the player's step: another still; change its seed: it samples anew."""
    player = page.locator("img.asr-picture").first
    player.scroll_into_view_if_needed()
    step = page.locator(".widget-slider").filter(has_text="step").last
    handle = step.locator(".noUi-handle, [role=slider]").last
    seed = page.locator(".widget-text").filter(has_text="seed").last.locator("input")

    def version() -> str:
        return player.get_attribute("data-version")

    for field, keys in ((handle, ["ArrowLeft"]), (seed, ["Backspace", "3", "Enter"])):
        before = version()
        field.focus()
        for key in keys:
            field.press(key)
        wait_until(page, lambda b=before: version() != b, f"the player after {keys}")


OWN_WIDGET = {
    "01_liif": click_the_probe,
    "02_diinn": click_the_probe,
    "04_hiif": click_the_probe,
    "06_idm": step_through_the_chain,
}


STRESS = bool(os.environ.get("ASR_STRESS"))
OPENED = NOTEBOOKS if STRESS else [NOTEBOOKS[5]]


@pytest.mark.parametrize("path", OPENED, ids=lambda path: path.stem)
def test_run_all_and_the_slider(path, lab, browser):
    address, folder = lab
    copy = smoke_copy(path, folder)
    page, refused = open_notebook(browser, address, copy.name)
    run_all(page, copy)
    executed = nbformat.read(copy, as_version=4)
    assert faults(executed) == []

    page.locator(".asr-explorer").scroll_into_view_if_needed()
    before = state(page)
    assert before["scale"] in ("4", "8")
    slider = page.locator(".asr-slider")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowRight")
    moved = wait_for_change(page, before, "scale")

    if moved["window"].split()[:2] != ["0", "0"]:  # it shows a part and can be moved
        page.locator(".asr-panels").focus()
        page.keyboard.press("ArrowDown")
        wait_for_change(page, moved, "window")

    if path.stem in OWN_WIDGET:
        OWN_WIDGET[path.stem](page)
    assert refused == [], "the page asked for something outside of this machine"
    page.close()
