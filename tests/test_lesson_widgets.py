"""Widgets and helpers of the lessons: what they compute, and what a click does."""

import io
from collections import Counter
from dataclasses import replace
from fractions import Fraction
from itertools import product

import ipywidgets as ipw
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, near, picture, tiny
from PIL import Image

from asr_course import build, plots
from asr_course.coords import make_cell, split_axes
from asr_course.diffusion import noise_source
from asr_course.images import sample_crops, to_tensor
from asr_course.lessons.base import TrainingCurve, effects, train_variant
from asr_course.lessons.diif import SLICINGS, SliceExplorer
from asr_course.lessons.diin import RateProbe
from asr_course.lessons.diinn import BranchProbe
from asr_course.lessons.hiif import DigitExplorer
from asr_course.lessons.idm import DenoisingPlayer
from asr_course.lessons.liif import LatentProbe, protocol_effects
from asr_course.metrics import evaluate
from asr_course.picture import Picture
from asr_course.presets import PRESETS
from asr_course.procedural import Procedural
from asr_course.render import render


def click(picture_widget, row: float, col: float) -> None:
    """What the browser sets when a picture is clicked."""
    assert picture_widget.chooses
    picture_widget.place = [row, col]


def middle(index: int, n: int) -> float:
    """The coordinate of a pixel's centre."""
    return (2 * index + 1) / n - 1


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would display."""
    displayed = []
    for place in ("plots", "lessons.base"):
        monkeypatch.setattr(f"asr_course.{place}.display", displayed.append)
    return displayed


PROBES = {
    "liif": (LatentProbe, {}),
    "diinn": (BranchProbe, {}),
    "diinn, m": (BranchProbe, {"modulation_input": "m"}),
    "diin": (RateProbe, {}),
    "diin, -c": (RateProbe, {"dictionary": False}),
    "diin, -d": (RateProbe, {"diffusion": "identity"}),
}


def make_probe(name: str, image=None, scale=16.0, **more):
    probe, options = PROBES[name]
    model = awake(build(name.split(",")[0], "tiny", **options, **more))
    return probe(model, picture(5, 6) if image is None else image, scale)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_follows_clicks_and_says_in_words_what_it_shows(name):
    probe = make_probe(name)
    click(probe.map, 0.5, 0.5)
    assert "row 0.000, column 0.000" in probe.status.value and probe.error is None
    before = probe.picture.data, probe.picture.alt
    click(probe.map, 0.25, 0.75)
    assert probe.error is None and "row -0.500, column 0.500" in probe.status.value
    assert probe.picture.data != before[0] and "row -0.500" in probe.map.alt
    assert probe.picture.alt in probe.status.value
    if "diinn" not in name:  # whose units and their scales stay
        assert probe.picture.alt != before[1]


def test_a_probe_s_map_is_enlarged_by_a_whole_factor_and_keys_move_by_its_pixels():
    for name, pixels in {"diinn": 1, "diin": 1, "liif": 0.25}.items():
        probe = make_probe(name)
        assert probe.map.step == [pixels / 5, pixels / 6] and probe.map.marked
        size = Image.open(io.BytesIO(probe.map.data)).size
        assert size == (6 * 53, 5 * 53) and not probe.picture.chooses


def test_a_probe_takes_the_pixel_size_of_its_scale_and_leaves_its_model_alone():
    model = tiny().train()
    probe = LatentProbe(model, picture(5, 6), scale=2.5)
    near(probe.cell, make_cell((13, 15))[None], 0)
    assert model.training and not probe.model.training


def test_the_latent_probe_s_colours_sum_to_the_model_s(liif):
    image = picture(32, 48)
    probe = LatentProbe(liif, image, scale=4)
    codes = probe.ensemble(0.21, -0.4)
    assert sum(weight for _, weight, _ in codes) == pytest.approx(1)
    coord, cell = torch.tensor([[[[0.21, -0.4]]]]), torch.tensor([[2 / 128, 2 / 192]])
    with torch.inference_mode():
        rgb = liif(to_tensor(image), coord, cell)[0, :, 0, 0]
    near(sum(weight * torch.tensor(rgb) for _, weight, rgb in codes), rgb)


def test_the_latent_probe_names_the_four_codes_around(liif):
    """Position (2.75, 1.5): three quarters of the weight lie with row 3."""
    codes = LatentProbe(liif, picture(8, 8)).ensemble(3.25 / 4 - 1, 2 / 4 - 1)
    weights = {place: weight for place, weight, _ in codes}
    expected = {(2, 1): 0.125, (2, 2): 0.125, (3, 1): 0.375, (3, 2): 0.375}
    assert weights == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["diinn", "diinn, m"])
@pytest.mark.parametrize("pixel", [(0, 0), (2, 3), (4, 5)])
def test_the_branch_probe_s_queries_are_output_pixels_at_its_scale(name, pixel):
    """16 x 16 of them fill the low-resolution pixel, wherever in it the click was."""
    probe, n = make_probe(name), BranchProbe.side
    place = middle(pixel[0], 5) + 0.19, middle(pixel[1], 6) - 0.16
    queries = probe.queries(*place)
    size, window = (5 * n, 6 * n), (pixel[0] * n, pixel[1] * n, n, n)
    with torch.inference_mode():
        rgb = probe.model.decode(probe.features, queries, probe.cell)[0]
        near(rgb, render(probe.model, to_tensor(probe.image), size, window), 1e-4)


@pytest.mark.parametrize("name", ["diinn", "diinn, m"])
def test_the_branch_probe_s_maps_are_those_of_the_model(name):
    probe = make_probe(name)
    queries, n = probe.queries(0.1, -0.3), BranchProbe.side
    with torch.inference_mode():
        layers = list(probe.model.branches(probe.features, queries, probe.cell))
    for maps, branches in zip(probe.layers(0.1, -0.3), layers, strict=True):
        for values, right in zip(maps.values(), branches, strict=True):
            right = right[0].expand(n, n, -1).movedim(-1, 0).numpy()
            np.testing.assert_allclose(values, right, atol=1e-6)
        np.testing.assert_allclose(maps["product"], maps["modulation"] * maps["sine"])


def test_the_branch_probe_keeps_its_units_until_others_are_asked_for():
    """So that a unit of layer 0 has the same sine at two places."""

    def busiest() -> list[list[int]]:
        maps = [layer["product"] for layer in probe.layers(*probe.chosen())]
        return [np.argsort(-m.std(axis=(1, 2)))[:3].tolist() for m in maps]

    def units() -> list[list[int]]:
        return [units for units, *_ in probe.shown]

    probe = make_probe("diinn")
    first, shown, words = busiest(), list(probe.shown), probe.picture.alt
    assert units() == first
    places = [(r / 5 + 0.1, c / 6 + 0.1) for r, c in product(range(5), range(6))]
    for place in places:
        click(probe.map, *place)
        assert list(probe.shown) == shown and probe.picture.alt == words
        if busiest() != first:
            break
    assert busiest() != first
    again = probe.children[0].children[1].children[0]
    again.click()
    assert units() == busiest() and probe.picture.alt != words


def all_places(probe, row, col) -> torch.Tensor:
    """The centres of all input pixels, row by row, and the place: (1, n + 1, 1, 2)."""
    H, W = probe.image.shape[:2]
    rows, cols = ([middle(k, n) for k in range(n)] for n in (H, W))
    return torch.tensor([*product(rows, cols), (row, col)])[None, :, None]


@torch.no_grad()
def slow_rates(probe, row, col) -> list[dict]:
    """By the formulas with all pairs at once, and a dictionary made in one piece."""
    model, features, layers = probe.model, probe.features, []
    queries = split_axes(all_places(probe, row, col))
    z = model.sample(features, queries, probe.cell)
    if model.options.dictionary:
        D, x = model.tokens, model.lift(features.latent.flatten(2).mT)
        A = model.first.attend(x, D)
    for k, layer in enumerate(model.layers):
        tokens, attn = None, 0
        if model.options.dictionary:
            refine = model.refine[k]
            norm = (A - A.mean(1)) / (A.var(1, correction=0) + 1e-5).sqrt()
            new = (norm * refine.scale).softmax(1).mT @ x
            sigma = refine.sigma_logit.sigmoid()
            D = sigma * new + (1 - sigma) * D
            A = layer.cross_attention.attend(z, D)
            tokens, attn = A[0, -1].numpy(), A @ layer.cross_attention.v(D)
        parts = layer.qkv(z).chunk(3 if layer.mixes else 1, dim=-1)
        S, P = np.zeros(z.shape[1] - 1), parts[-1]
        if layer.mixes:
            weight = 1 + F.cosine_similarity(parts[0][0, :, None], parts[1][0], dim=-1)
            S = (weight[-1, :-1] / weight[-1, :-1].mean()).numpy()
            P = weight / weight.sum(dim=1, keepdim=True) @ P
        rates = S.reshape(probe.image.shape[:2])
        layers.append({"rates": rates, "tokens": tokens})
        z = x = layer(z, P, attn)
    return layers


@pytest.mark.parametrize("place", [(-0.4, 5 / 6), (0.13, -0.4), (1, -1)])
@pytest.mark.parametrize("name", ["diin", "diin, -c", "diin, -d"])
def test_rates_and_tokens_are_those_of_the_formulas(name, place):
    """And no hooks stay behind."""
    probe = make_probe(name, scale=4)
    layers = probe.layers(*place)
    for found, slow in zip(layers, slow_rates(probe, *place), strict=True):
        np.testing.assert_allclose(found["rates"], slow["rates"], atol=2e-5)
        if slow["tokens"] is None:
            assert found["tokens"] is None
        else:
            np.testing.assert_allclose(found["tokens"], slow["tokens"], atol=2e-5)
    modules = list(probe.model.modules())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def slow_slices(n_rows: int, n_cols: int, slicing: str) -> tuple[int, int, int]:
    """Pixels, groups and slices of three by three of ten low-resolution pixels."""
    groups = {}
    for r, c in product(range(n_rows), range(n_cols)):
        i, j = (2 * r + 1) * 10 // (2 * n_rows), (2 * c + 1) * 10 // (2 * n_cols)
        if i < 3 and j < 3:
            groups.setdefault((i, j), []).append((r, c))
    count = 0
    for pixels in groups.values():
        u = {"linear": -(-n_cols // 10), "constant": len(pixels), "fixed": 4}
        u["rows"] = len({c for _, c in pixels})
        count += -(-len(pixels) // u[slicing])
    return sum(map(len, groups.values())), len(groups), count


@pytest.mark.parametrize("slicing", SLICINGS)
@pytest.mark.parametrize("scales", [(1, 1), (4, 4), (2.5, 4), (1, 3.7), (7.5, 2)])
def test_slices_are_counted(scales, slicing):
    _, words = SliceExplorer().render(*scales, slicing)
    pixels, groups, slices = slow_slices(*(round(10 * s) for s in scales), slicing)
    assert f"{pixels} output pixels" in words
    assert f"{groups} groups and {slices} slices" in words


@pytest.mark.parametrize("scales", [(4, 4), (2.5, 4), (7.5, 7.5), (3.3, 9.2), (12, 12)])
@pytest.mark.parametrize("slicing", SLICINGS)
def test_slices_that_touch_differ_in_colour_and_a_slice_has_one(scales, slicing):
    explorer = SliceExplorer()
    canvas = np.asarray(explorer.render(*scales, slicing)[0])
    size = [round(10 * s) for s in scales]
    groups, at = {}, {}
    for r, c in product(*map(range, size)):
        i, j = ((2 * x + 1) * 10 // (2 * n) for x, n in zip((r, c), size, strict=True))
        if i < 3 and j < 3:
            groups.setdefault((i, j), []).append((r, c))
    for group, pixels in groups.items():
        u = {"linear": -(-size[1] // 10), "constant": len(pixels), "fixed": 4}
        u["rows"] = len({c for _, c in pixels})
        for place, (r, c) in enumerate(pixels):
            y, x = (
                slice(round(k * 1200 / n), round((k + 1) * 1200 / n))
                for k, n in zip((r, c), size, strict=True)
            )
            colours = Counter(map(tuple, canvas[y, x].reshape(-1, 3).tolist()))
            del colours[0, 0, 0], colours[255, 255, 255]  # lines
            at[r, c] = (*group, place // u[slicing]), max(colours, key=colours.get)
    assert len(set(at.values())) == len({key for key, _ in at.values()})
    for (r, c), (slice_, colour) in at.items():
        for neighbour in ((r + 1, c), (r, c + 1)):
            other, its_colour = at.get(neighbour, (slice_, colour))
            assert (slice_ == other) == (colour == its_colour), (r, c)


def test_linked_scales_follow_each_other_and_others_do_not():
    explorer = SliceExplorer()
    explorer.cols.value = 7.3
    assert explorer.rows.value == 7.3 and "×7.3, linear" in explorer.status.value
    explorer.together.value, before = False, explorer.picture.data
    explorer.rows.value = 2.5
    assert explorer.cols.value == 7.3 and explorer.picture.data != before
    assert "×2.5 (rows), ×7.3" in explorer.status.value
    explorer.slicing.value = "fixed"
    assert "fixed" in explorer.status.value and explorer.error is None


def slow_digits(t: Fraction, levels: int) -> list[int]:
    """By halves: 1 where what is left reaches the next one."""
    bits = []
    for k in range(1, levels + 1):
        bits.append(int(t >= Fraction(1, 2**k)))
        t -= bits[-1] * Fraction(1, 2**k)
    return bits


def slow_places(scale: float) -> list[Fraction]:
    """Where output pixels lie between the codes at 4 and 5 of 10, exactly."""
    n = round(10 * scale)
    positions = [Fraction((2 * i + 1) * 10, 2 * n) - Fraction(1, 2) for i in range(n)]
    return [p - 4 for p in positions if 4 <= p < 5]


@pytest.mark.parametrize("levels", [1, 3, 6])
@pytest.mark.parametrize("place", [(0.31, 0.58), (0.02, 0.98)])
@pytest.mark.parametrize("scale", [1, 2.5, 3.3, 8])
def test_a_click_chooses_the_nearest_pixel_and_counts_who_shares(scale, place, levels):
    explorer, places = DigitExplorer(scale, levels), slow_places(scale)
    click(explorer.picture, *place)
    row, col = (min(places, key=lambda t: abs(t - Fraction(p))) for p in place)
    words = explorer.status.value
    assert explorer.error is None
    assert f"row {float(row):.3f}, column {float(col):.3f}" in words
    own = slow_digits(row, levels), slow_digits(col, levels)
    for k in range(levels):
        sharers = sum(
            slow_digits(r, k + 1) == own[0][: k + 1]
            and slow_digits(c, k + 1) == own[1][: k + 1]
            for r, c in product(places, repeat=2)
        )
        line = f"level {k}: {own[0][k]} and {own[1][k]}, pixels: {sharers}"
        assert line in words


@pytest.fixture
def page():
    """A page in which `show` displays a picture and keeps what it says."""
    from test_browser import running_browser  # skips where there is no Chromium

    with running_browser() as browser:
        page = browser.new_page(viewport={"width": 900, "height": 700})
        page.set_content("<div id=root></div>")
        page.evaluate(
            """async (source) => {
              const url = "data:text/javascript," + encodeURIComponent(source);
              const { default: widget } = await import(url);
              window.heard = [];
              document.addEventListener("keydown", (e) => window.heard.push(e.key));
              window.show = (state) => {
                state.data = new Uint8Array(state.data);
                const told = {}, model = {
                  get: (key) => state[key], save_changes: () => {},
                  on: (name, call) => { (told[name] ||= []).push(call); },
                  set: (key, value) => {
                    state[key] = value;
                    (told["change:" + key] || []).forEach((call) => call());
                  },
                };
                window.state = state;
                widget.render({ model, el: document.getElementById("root") });
              };
            }""",
            Picture._esm,
        )
        yield page


def show(page, picture_widget) -> None:
    """Display a picture as the notebook does."""
    names = ("alt", "chooses", "place", "step", "marked")
    state = {name: getattr(picture_widget, name) for name in names}
    page.evaluate("show", state | {"data": list(picture_widget.data)})
    page.locator("img").wait_for()


def test_arrow_keys_choose_the_neighbour_and_stop_at_the_border(page):
    explorer, places = DigitExplorer(8), [float(t) for t in slow_places(8)]
    click(explorer.picture, places[1], places[1])
    show(page, explorer.picture)
    image = page.locator("img")
    for keys, (row, col) in (
        (["ArrowDown"], (2, 1)),
        (["ArrowUp", "ArrowRight"] * 9, (0, 7)),
        (["ArrowDown", "ArrowLeft"], (1, 6)),
    ):
        for key in keys:
            image.press(key)
        explorer.picture.place = page.evaluate("state.place")
        where = f"row {places[row]:.3f}, column {places[col]:.3f}"
        assert where in explorer.status.value


def test_a_click_chooses_and_letters_do_not_reach_jupyterlab(page):
    """Alone they would add, cut or delete cells."""
    probe = make_probe("liif", picture(5, 6))
    show(page, probe.map)
    image = page.locator("img")
    image.click(position={"x": 6 * 53 * 0.75, "y": 5 * 53 * 0.2})
    assert page.evaluate("state.place") == pytest.approx([0.2, 0.75], abs=0.01)
    for key in ("b", "x", "d", " ", "Delete", "Backspace", "Enter", "ArrowDown"):
        image.press(key)
    for key in ("Control+s", "Shift+Enter", "Escape", "Tab"):
        image.press(key)
    heard = [key for key in page.evaluate("heard") if key not in ("Control", "Shift")]
    assert heard == ["s", "Enter", "Escape", "Tab"]
    assert page.evaluate("state.place")[0] == pytest.approx(0.25, abs=0.01)


def test_a_picture_has_its_own_size_or_shrinks_smoothly(page):
    explorer = SliceExplorer()
    show(page, explorer.picture)
    look = """() => {
      const image = document.querySelector("img"), style = getComputedStyle(image);
      return [image.clientWidth, style.imageRendering, style.cursor, image.alt];
    }"""
    page.wait_for_function("document.querySelector('img').clientWidth === 361")
    page.wait_for_timeout(100)
    assert page.evaluate(look) == [361, "pixelated", "auto", explorer.picture.alt]
    page.set_viewport_size({"width": 300, "height": 700})
    page.wait_for_timeout(200)
    width, rendering, *_ = page.evaluate(look)
    assert width < 300 and rendering == "auto"


@pytest.mark.parametrize("kind", [LatentProbe, SliceExplorer, DigitExplorer])
def test_an_error_is_shown_until_the_next_picture(kind, monkeypatch):
    made = make_probe("liif") if kind is LatentProbe else kind()

    def act(place: float) -> None:
        if kind is SliceExplorer:
            made.rows.value = 5 + place
        else:
            click(made.map if kind is LatentProbe else made.picture, place, place)

    before = made.picture.data
    with monkeypatch.context() as patch:
        patch.setattr(made, "render", lambda *_: 1 / 0)
        act(0.2)
    assert isinstance(made.error, ZeroDivisionError)
    assert "Not drawn" in made.status.value and made.picture.data == before
    act(0.7)
    assert made.error is None and "Not drawn" not in made.status.value


def test_every_control_has_a_name_and_says_what_it_is():
    """A tooltip that is None is shown as "null"."""
    kinds = (ipw.FloatSlider, ipw.IntSlider, ipw.BoundedIntText, ipw.Button, ipw.Play)
    for widget in (SliceExplorer(), DigitExplorer(), player(), make_probe("diinn")):
        controls = widget.children[0].children[1].children
        found = [control for control in controls if isinstance(control, kinds)]
        assert found
        for control in found:
            assert control.tooltip, control
            assert control.description or isinstance(control, ipw.Play)


def test_widgets_show_a_sheet_for_readers_without_a_kernel(shown):
    for widget in (SliceExplorer(), DigitExplorer(), player()):
        widget.show()
        assert shown[-2] is widget and len(shown[-1].alt) > 50


def player(samples=2) -> DenoisingPlayer:
    """From 4 x 5 to 12 x 15 pixels, step by step; counts what its network is asked."""
    model = awake(build("idm", "tiny"))
    made = DenoisingPlayer(model, picture(4, 5), samples, scale=3)
    made.calls = []
    model.unet.register_forward_pre_hook(lambda _, args: made.calls.append(1))
    return made


def check_chain(playing, size, seed, scale) -> None:
    """It holds the sampler's chain, from noise on."""
    lr = to_tensor(playing.image).repeat(playing.samples, 1, 1, 1)
    chain = playing.model.chain(lr, size, 25, seed, scale=scale)
    (noise, _), *stills = map(tuple, playing.stills)
    near(noise, noise_source(lr, size, seed)(), 0)
    near(stills, [(step.y, step.y0) for step in chain])


def test_a_player_holds_the_sampler_s_chain_and_steps_through_it():
    playing = player()
    assert playing.error is None and "√γ = 1.00" in playing.status.value
    last = playing.picture.data
    playing.step.value = 10  # of 25: from time 1000 to 600
    level = playing.model.gamma[600].sqrt().item()
    assert f"step 10 of 25, share of picture √γ = {level:.2f}" in playing.status.value
    assert playing.picture.data != last and playing.calls == []
    check_chain(playing, (12, 15), 0, 3.0)


def test_another_seed_or_scale_makes_another_chain():
    playing = player()
    playing.seed.value = 5  # two samples: seeds 5 and 6
    assert len(playing.calls) == 25
    check_chain(playing, (12, 15), 5, 3.0)
    playing.told.value = 6.5
    assert "told ×6.5" in playing.status.value
    check_chain(playing, (12, 15), 5, 6.5)
    playing.scale.value = 4.4
    assert playing.told.value == 4.4 and "told ×4.4" in playing.status.value
    check_chain(playing, (18, 22), 5, 4.4)


def test_the_seed_that_is_typed_is_the_first_that_is_shown(monkeypatch):
    playing, titles = player(), []
    gallery = plots.gallery
    monkeypatch.setattr(
        plots,
        "gallery",
        lambda p, t, *a, **k: titles.append(t) or gallery(p, t, *a, **k),
    )
    playing.seed.value = 3
    assert titles[-1][:3] == ["input", "seed 3", "seed 4"]


class Place(list):
    """A display and its handle: all that it showed, the last one last."""

    update = list.append

    def __init__(self, first, display_id):
        super().__init__([first])


def test_the_curve_draws_in_time_and_shows_a_running_mean(monkeypatch):
    monkeypatch.setattr("asr_course.lessons.base.display", Place)
    clock = iter([0, 0, 10, 60])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    curve = TrainingCurve(30, every=50)
    losses = list(np.linspace(1, 0, 30))
    for step in (9, 10, 15):
        curve(step, losses[:step])
        assert len(curve.picture) == 1 + (step == 15)
    said = [text.data for text in curve.label]
    assert said[:2] == ["step 0 of 30", "step 9 of 30"]
    assert said[2] == "step 10 of 30, 3:20 left"
    assert said[-1] == "step 15 of 30, 2:30 left"
    assert "15 steps, from 1.000" in curve.picture[-1].alt
    raw, mean = curve.figure(losses).axes[0].lines
    np.testing.assert_allclose(raw.get_ydata(), losses)
    expected = [np.mean(losses[k - 19 : k + 1]) for k in range(19, 30)]
    np.testing.assert_allclose(mean.get_ydata(), expected, atol=1e-12)
    plots.figure_png(raw.figure)  # closes it
    curve.show([0.25, 0.125])
    assert "2 steps, from 0.250" in curve.picture[-1].alt
    assert curve.label[-1].data == "2 steps"


def test_the_curve_tells_psnr_at_each_fifth(monkeypatch):
    monkeypatch.setattr("asr_course.lessons.base.display", Place)
    torch.manual_seed(0)
    curve = TrainingCurve(200, build("liif", "tiny"))
    (row,) = evaluate(curve.model, sample_crops(128), [4])
    score = f", {row['psnr_y']:.2f} dB on four crops of 128 × 128 at ×4"
    for step in (39, 40):
        curve(step, [1.0] * step)
    said = [text.data for text in curve.label]
    assert said[1] == "step 39 of 200" and said[2].endswith(f"left{score}")
    curve.show([1.0] * 200)
    assert curve.label[-1].data == "200 steps" + score


def test_effects_are_means_and_differences_within_a_seed():
    scores = {("full", 0): 30, ("full", 1): 32, ("-u", 0): 29.5, ("-u", 1): 31}
    rows = [
        {"variant": variant, "seed": seed, "scale": scale, "psnr_y": score - scale}
        for (variant, seed), score in scores.items()
        for scale in (2, 4)
    ]
    heads, table = effects({"rows": rows}, "full")
    assert heads == ["variant", "×2", "×4"]
    assert table[0] == ["full", "29.00 dB", "27.00 dB"]
    assert table[1] == ["-u", "-0.75 ± 0.35", "-0.75 ± 0.35"]


def test_a_variant_is_trained_as_it_is_called():
    plan = PRESETS["smoke"].pair
    plan = replace(plan, schedule=replace(plan.schedule, steps=1))
    pictures = Procedural(2, 0)
    model = train_variant("liif", "-e", plan, 3, pictures, "cpu")
    assert not model.options.local_ensemble and not model.training
    again, other = (
        train_variant("liif", name, plan, 3, pictures, "cpu") for name in ("-e", "full")
    )
    near(again.mlp.layers[0].weight, model.mlp.layers[0].weight, 0)
    assert other.options.local_ensemble


def test_protocol_effects_begin_with_the_protocol_itself(liif):
    pictures = {"a": picture(40, 44), "b": picture(41, 36, seed=1)}
    rows = protocol_effects(liif, pictures, 2.5)
    scores = evaluate(liif, pictures, [2.5])
    assert rows[0]["psnr"] == pytest.approx(scores[0]["psnr_y"], abs=1e-4)
    assert rows[0]["change"] == 0 and len(rows) == 8
    for row in rows:
        assert row["change"] == pytest.approx(row["psnr"] - rows[0]["psnr"])
