"""Widgets that look inside one method: what they show, and what they compute."""

import asyncio
import io
import re
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import awake, picture, tiny
from PIL import Image, ImageDraw

from asr_course import build, plots
from asr_course.coords import make_cell
from asr_course.images import to_tensor
from asr_course.models.diif import DIIFOptions
from asr_course.models.idm import noise_source
from asr_course.probes import (
    BranchProbe,
    DenoisingPlayer,
    DigitExplorer,
    LatentProbe,
    RateProbe,
    SliceExplorer,
    TrainingCurve,
)
from asr_course.lessons.base_widgets import PixelProbe
from asr_course.render import render


def click(probe, row: float, col: float) -> None:
    """What the browser sends when the picture is clicked."""
    probe.map._handle_custom_msg({"type": "click", "row": row, "col": col}, [])


def drawn(widget) -> np.ndarray:
    """The pixels that an image widget shows: (rows, cols, 3)."""
    return np.asarray(Image.open(io.BytesIO(widget.value)).convert("RGB"))


def middle(index: int, n: int) -> float:
    """The coordinate of a pixel's centre."""
    return (2 * index + 1) / n - 1


# What all probes share


class Corner(PixelProbe):
    """A probe that shows the model's answer at one place, as one pixel."""

    def render(self, row, col):
        coord = torch.tensor([[[[row, col]]]])
        with torch.inference_mode():
            return plots.gallery([self.answer(coord)], [""], 4)


def test_a_probe_must_say_what_it_draws():
    with pytest.raises(NotImplementedError):
        PixelProbe(tiny(), picture(5, 6))


def test_a_probe_starts_in_the_middle_and_marks_the_place():
    probe = Corner(tiny(), picture(5, 6))
    assert "(0.000, 0.000)" in probe.status.value
    before = probe.map.data
    click(probe, 0.25, 0.75)
    assert "(-0.500, 0.500)" in probe.status.value
    assert "row -0.50, col 0.50" in probe.map.alt
    assert probe.map.data != before
    marked = np.asarray(Image.open(io.BytesIO(probe.map.data)))
    plain = probe.image.repeat(2, 0).repeat(2, 1)
    places = np.argwhere((marked != plain).any(-1))  # of 10 rows and 12 columns
    assert np.abs(places - [2.5, 9]).max() <= 4.5


@pytest.mark.parametrize("kind", ["drag", "key", None])
def test_a_probe_follows_clicks_alone(kind):
    probe = Corner(tiny(), picture(5, 6))
    before = probe.map.data, probe.detail.value, probe.status.value
    probe.map._handle_custom_msg({"type": kind, "row": 0.1, "col": 0.1}, [])
    assert (probe.map.data, probe.detail.value, probe.status.value) == before
    assert probe.error is None


def test_a_click_outside_counts_as_one_on_the_border():
    probe = Corner(tiny(), picture(5, 6))
    click(probe, -0.2, 1.3)
    assert probe.error is None
    assert "(-1.000, 1.000)" in probe.status.value


def test_a_probe_tells_the_model_the_pixel_size_of_its_scale():
    probe = Corner(tiny(), picture(5, 6), scale=2.5)
    assert torch.equal(probe.cell, make_cell((13, 15))[None])


def test_a_probe_puts_its_model_into_eval_mode_and_clamps():
    model = tiny().train()
    probe = Corner(model, picture(5, 6))
    assert not probe.model.training
    torch.nn.init.constant_(probe.model.mlp.layers[-1].bias, 5.0)
    with torch.inference_mode():
        assert (probe.answer(torch.zeros(1, 2, 3, 2)) == torch.ones(3, 2, 3)).all()


def test_an_error_is_shown_until_a_click_succeeds():
    probe = Corner(tiny(), picture(5, 6))
    working = probe.render
    probe.render = lambda row, col: 1 / 0
    click(probe, 0.2, 0.2)
    assert isinstance(probe.error, ZeroDivisionError)
    assert "division by zero" in probe.status.value
    probe.render = working
    click(probe, 0.2, 0.2)
    assert "division" not in probe.status.value
    assert probe.error is None


def test_an_incomplete_click_is_shown_not_raised():
    probe = Corner(tiny(), picture(5, 6))
    probe.map._handle_custom_msg({"type": "click", "row": 0.2}, [])
    assert isinstance(probe.error, KeyError)
    assert "col" in probe.status.value


# LatentProbe


def test_the_probe_s_opinions_sum_to_the_model_s_answer(liif):
    image = picture(32, 48)
    probe = LatentProbe(liif, image, scale=4)
    coord = torch.tensor([[[[0.21, -0.4]]]])
    answers = probe.opinions(0.21, -0.4)
    assert sum(a["weight"] for a in answers) == pytest.approx(1)
    blended = sum(a["weight"] * a["rgb"] for a in answers)
    with torch.inference_mode():
        cell = torch.tensor([[2 / 128, 2 / 192]])
        direct = liif(to_tensor(image), coord, cell)[0, :, 0, 0]
    assert np.allclose(blended, direct, atol=1e-5)


def test_the_opinions_are_those_of_the_four_codes_around(liif):
    """Position (2.75, 1.5): three quarters of the weight lie with row 3."""
    probe = LatentProbe(liif, picture(8, 8))
    answers = probe.opinions((2.75 + 0.5) / 4 - 1, (1.5 + 0.5) / 4 - 1)
    found = {answer["at"]: answer["weight"] for answer in answers}
    expected = {(2, 1): 0.125, (2, 2): 0.125, (3, 1): 0.375, (3, 2): 0.375}
    assert found == pytest.approx(expected, abs=1e-5)


def colour(k: int) -> np.ndarray:
    return np.array([int(plots.COLOURS[k][c : c + 2], 16) for c in (1, 3, 5)])


def test_a_rectangle_weighs_the_code_on_the_opposite_side(liif):
    """The query lies at (2.75, 1.5), so row 3 and column 2 are in the middle."""
    probe = LatentProbe(liif, np.full((8, 8, 3), 200, np.uint8))
    place = (2.75 + 0.5) / 4 - 1, (1.5 + 0.5) / 4 - 1
    pixels = np.asarray(probe.render(*place)).astype(int)
    zoom, around = probe.zoom, probe.around

    def shown(row, col):
        at = (row - 3 + around + 0.5) * zoom, (col - 2 + around + 0.5) * zoom
        return pixels[int(at[0]), int(at[1])]

    for k, answer in enumerate(probe.opinions(*place)):
        opposite = [5 - answer["at"][0], 3 - answer["at"][1]]
        away = np.sign(answer["at"] - np.array([2.75, 1.5])) * 3 / zoom
        assert np.array_equal(shown(*answer["at"] + away), colour(k))  # a dot
        between = shown((2.75 + opposite[0]) / 2, (1.5 + opposite[1]) / 2)
        tinted = 200 + (colour(k) - 200) * 110 / 255
        assert np.abs(between - tinted).max() <= 2
    assert np.array_equal(shown(2.75, 1.5), [255, 255, 255])  # the query itself
    assert np.array_equal(shown(4.3, 0.4), [200, 200, 200])


def test_the_opinions_stand_below_and_then_their_sum(liif):
    """Five patches below the neighbourhood, each in the colour that it stands for."""
    probe = LatentProbe(liif, picture(8, 8))
    colours = np.array([[0.9, 0.1, 0.2], [0.3, 1.7, 0.1], [0, -0.4, 0], [0.5, 0.1, 1]])
    weights = [0.1, 0.2, 0.3, 0.4]
    answers = [
        {"at": (k // 2, k % 2), "weight": weights[k], "rgb": colours[k]}
        for k in range(4)
    ]
    probe.opinions = lambda row, col: answers
    pixels = np.asarray(probe.render(-0.7, -0.7)).astype(int)
    side = 5 * probe.zoom
    for k, rgb in enumerate([*colours, weights @ colours]):
        shown = pixels[side + 6 + 18, k * (side // 5) + 22]
        assert np.abs(shown - 255 * rgb.clip(0, 1)).max() <= 1


def test_the_neighbourhood_repeats_the_border(liif):
    """At the upper left corner the first row and column fill what is missing."""
    probe = LatentProbe(liif, picture(8, 8))
    pixels, zoom = np.asarray(probe.render(-1, -1)), probe.zoom
    for r, row in enumerate([0, 0, 0, 1, 2]):  # around row 0
        shown = pixels[r * zoom + 4, 4 * zoom + 4]  # in column 2, far from the marks
        assert np.array_equal(shown, probe.image[row, 2])


def test_the_probe_follows_a_click(liif):
    probe = LatentProbe(liif, picture(32, 48))
    before = probe.detail.value
    click(probe, 0.1, 0.9)
    assert probe.error is None
    assert probe.detail.value != before
    assert "(-0.800, 0.800)" in probe.status.value


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (0.5, 1)])
def test_the_probe_works_at_the_border(liif, place):
    probe = LatentProbe(liif, picture(5, 6))
    click(probe, *place)
    assert probe.error is None


# TrainingCurve


def test_the_training_curve_draws_the_last_step():
    curve = TrainingCurve(3)
    for step in (1, 2, 3):
        curve(step, [0.3, 0.2, 0.1][:step])
    assert curve.label.value == "step 3 of 3"
    assert bytes(curve.picture.value).startswith(b"\x89PNG")


def test_the_training_curve_waits_between_drawings():
    patient, eager = TrainingCurve(9, every=1e6), TrainingCurve(9, every=-1)
    for curve in (patient, eager):
        curve(1, [0.3])
        assert curve.label.value == "step 1 of 9"
    assert not patient.picture.value
    assert bytes(eager.picture.value).startswith(b"\x89PNG")


def test_the_training_curve_shows_a_running_mean():
    losses = list(np.linspace(1, 0, 30))
    figure = TrainingCurve(30).figure(losses)
    raw, mean = figure.axes[0].lines
    assert np.allclose(raw.get_ydata(), losses)
    expected = [np.mean(losses[k - 19 : k + 1]) for k in range(19, 30)]
    assert np.allclose(mean.get_ydata(), expected)
    assert list(mean.get_xdata()) == list(range(19, 30))
    plots.figure_png(figure)  # closes it


def test_the_finished_curve_outlives_its_widget(shown):
    TrainingCurve(2).show([0.25, 0.125])
    assert shown[-1].alt == "L1 loss over 2 steps, from 0.250 on"


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would display."""
    found = []
    places = ("plots", "probes.diif", "probes.hiif", "probes.idm", "probes.tools")
    for place in places:
        monkeypatch.setattr(f"asr_course.{place}.display", found.append)
    return found


# BranchProbe

SIDE = BranchProbe.side
NAMES = ("modulation", "sine", "product")
HERE = middle(1, 5), middle(5, 6)  # in the second row and the last column


def diinn_probe(image=None, scale=16, **options) -> BranchProbe:
    image = picture(5, 6) if image is None else image
    return BranchProbe(awake(build("diinn", "tiny", **options)), image, scale)


def all_units(probe, row, col) -> list[dict]:
    """Every unit's maps of every layer, in the order of the units."""
    probe.units = 48
    found = []
    for layer in probe.layers(row, col):
        order = np.argsort(layer["units"])
        assert sorted(layer["units"]) == list(range(48))
        found.append({name: layer[name][order] for name in NAMES})
    return found


def test_branches_have_maps_for_every_layer():
    layers = diinn_probe().layers(0.1, -0.3)
    assert len(layers) == 3
    for layer in layers:
        assert len(set(layer["units"])) == 3
        for name in NAMES:
            assert layer[name].shape == (3, SIDE, SIDE)
            assert np.isfinite(layer[name]).all()
        assert np.allclose(layer["product"], layer["modulation"] * layer["sine"])
        assert layer["modulation"].min() >= 0
        assert np.abs(layer["sine"]).max() <= 1


def test_branches_are_those_of_the_model():
    """Layer by layer, against the model's own branches for the same queries."""
    probe = diinn_probe()
    layers = all_units(probe, 0.1, -0.3)
    coord = probe.territory(0.1, -0.3)
    with torch.inference_mode():
        expected = list(probe.model.branches(probe.features, coord, probe.cell))
    for layer, maps in zip(layers, expected, strict=True):
        for name, values in zip(NAMES, maps, strict=True):
            values = values[0].expand(SIDE, SIDE, 48).movedim(-1, 0)
            assert np.allclose(layer[name], values, atol=1e-6)


def test_the_busiest_units_come_first():
    probe = diinn_probe()
    for layer, every in zip(
        probe.layers(0.1, -0.3), all_units(probe, 0.1, -0.3), strict=True
    ):
        busy = every["product"].reshape(48, -1).std(axis=1)
        assert layer["units"] == list(np.argsort(-busy)[:3])


def test_the_first_sine_is_the_same_in_every_pixel_and_the_last_is_not():
    probe = diinn_probe()
    here = all_units(probe, middle(1, 5), middle(2, 6))
    there = all_units(probe, middle(4, 5), middle(0, 6))
    assert np.allclose(here[0]["sine"], there[0]["sine"], atol=1e-5)
    assert here[0]["sine"].std() > 0.01
    assert not np.allclose(here[-1]["sine"], there[-1]["sine"], atol=1e-3)


def test_the_first_modulation_is_constant_inside_a_pixel():
    layers = all_units(diinn_probe(), 0.1, -0.3)
    spread = [np.ptp(layer["modulation"], axis=(1, 2)).max() for layer in layers]
    assert spread[0] == 0
    assert min(spread[1:]) > 1e-3


@pytest.mark.parametrize("inside", [(-0.99, -0.99), (0, 0), (0.99, 0.6)])
@pytest.mark.parametrize("pixel", [(0, 0), (2, 3), (4, 5)])
def test_queries_fill_the_pixel_that_was_asked_for(pixel, inside):
    """Sixteen by sixteen centres, wherever in the pixel the click was."""
    probe = diinn_probe()
    place = [
        middle(p, n) + i / n for p, n, i in zip(pixel, (5, 6), inside, strict=True)
    ]
    coord = probe.territory(*place)
    assert coord.shape == (1, SIDE, SIDE, 2)
    for k, (p, n) in enumerate(zip(pixel, (5, 6), strict=True)):
        steps = (np.arange(SIDE) + 0.5) / SIDE
        expected = (p + steps) * 2 / n - 1
        axis = coord[0, :, :, k] if k == 0 else coord[0, :, :, k].T
        assert np.allclose(axis, expected[:, None], atol=1e-6)


@pytest.mark.parametrize("options", [{}, {"modulation_input": "m"}, {"skip": False}])
@pytest.mark.parametrize("pixel", [(0, 0), (2, 3), (4, 5)])
def test_the_answer_is_what_render_gives_for_that_pixel(pixel, options):
    """At the scale of the patch, sixteen, output pixels are the same queries."""
    probe = diinn_probe(**options)
    for parameter in probe.model.last.parameters():
        parameter.data *= 0.1  # few colours are clamped
    queries = probe.territory(middle(pixel[0], 5), middle(pixel[1], 6))
    with torch.inference_mode():
        patch = probe.answer(queries)
    window = (pixel[0] * SIDE, pixel[1] * SIDE, SIDE, SIDE)
    expected = render(
        probe.model, to_tensor(probe.image), (5 * SIDE, 6 * SIDE), window
    ).clamp(0, 1)
    assert torch.allclose(patch, expected, atol=1e-5)
    assert patch.std() > 1e-3


def places(pixels, patch) -> list[tuple[int, int]]:
    """(row, column) of every place where `pixels` hold `patch`."""
    pixels, patch = (x.astype(int) @ [65536, 256, 1] for x in (pixels, patch))
    h, w = patch.shape
    rows, cols = pixels.shape[0] - h + 1, pixels.shape[1] - w + 1
    found = np.ones((rows, cols), bool)
    for r in range(0, h, h // 5):
        for c in range(0, w, w // 5):
            found &= pixels[r : r + rows, c : c + cols] == patch[r, c]
    return [
        (int(r), int(c))
        for r, c in np.argwhere(found)
        if np.array_equal(pixels[r : r + h, c : c + w], patch)
    ]


@pytest.fixture
def shaded(monkeypatch):
    """Every map that is drawn: (numbers, its picture without the frame)."""
    found, shade = [], plots.shade

    def watched(values, *more):
        made = shade(values, *more)
        found.append((values, np.asarray(made)[1:-1, 1:-1]))
        return made

    monkeypatch.setattr(plots, "shade", watched)
    return found


def test_the_picture_holds_all_maps_in_rows_and_columns(shaded):
    """A row for every layer; units from left to right, and three maps of each."""
    probe, rng = diinn_probe(), np.random.default_rng(0)
    probe.units = 2
    layers = [
        {"units": [7, 3], **{name: rng.random((2, SIDE, SIDE)) for name in NAMES}}
        for _ in range(2)
    ]
    probe.layers = lambda row, col: layers
    shaded.clear()
    pixels = np.asarray(probe.render(*HERE))
    assert len(shaded) == 2 * 2 * 3
    found = np.empty((2, 6, 2), int)  # layers, columns, (row, column)
    for n, (values, made) in enumerate(shaded):
        k, column = divmod(n, 6)
        own = layers[k][NAMES[column % 3]][column // 3]
        assert np.corrcoef(values.ravel(), own.ravel())[0, 1] > 0.999
        (found[k, column],) = places(pixels, made)
    assert (found[..., 0] == found[:, :1, 0]).all()
    assert (found[..., 1] == found[:1, :, 1]).all()
    assert np.diff(found[:, 0, 0]).min() >= SIDE * probe.zoom
    assert np.diff(found[0, :, 1]).min() >= SIDE * probe.zoom


def test_the_maps_have_the_colours_of_their_layer(shaded):
    """Modulation from black to the layer's largest in white; signs blue and orange."""
    probe = diinn_probe()
    ramp = np.linspace(-1, 1, SIDE)[None].repeat(SIDE, 0)
    grey = (ramp + 1) / 2

    def layer(size):
        maps = {
            "modulation": np.stack([grey / 2, grey, 0 * grey]) * 7 * size,
            "sine": np.stack([ramp, -ramp, ramp / 2]),
            "product": np.stack([ramp / 4, ramp / 2 - 0.5, 0 * ramp]) * size,
        }
        return {"units": [5, 0, 9], **maps}

    probe.layers = lambda row, col: [layer(1), layer(1e-3), layer(0)]
    shaded.clear()
    probe.render(*HERE)
    black, white = [0, 0, 0], [255, 255, 255]
    blue, orange = [0, 114, 178], [213, 94, 0]

    def ends(k, unit, kind):
        """The colours of a map's first and last column."""
        made = shaded[9 * k + 3 * unit + kind][1]
        return made[20, [0, -1]].tolist()

    for k in (0, 1):  # whatever its size, a layer uses all shades
        assert np.abs(np.subtract(ends(k, 0, 0), [[0] * 3, [128] * 3])).max() <= 1
        assert ends(k, 1, 0) == [black, white]
        assert ends(k, 2, 0) == [black, black]
        assert ends(k, 0, 1) == [blue, orange]
        assert ends(k, 1, 1) == [orange, blue]
        assert ends(k, 1, 2) == [blue, white]
        assert ends(k, 2, 2) == [white, white]
        paler = 255 - (255 - np.array([blue, orange])) / 4
        assert np.abs(ends(k, 0, 2) - paler).max() <= 1
    for unit in range(3):  # a layer of zeros is black and white
        assert ends(2, unit, 0) == [black, black]
        assert ends(2, unit, 2) == [white, white]


def test_the_picture_shows_the_answer():
    probe = diinn_probe()
    with torch.inference_mode():
        patch = plots.enlarge(probe.answer(probe.territory(*HERE)), 6 * SIDE)
    assert patch.shape == (96, 96, 3)
    assert len(places(np.asarray(probe.render(*HERE)), patch)) == 1


def test_a_click_moves_the_branch_probe_and_changes_its_picture():
    probe = diinn_probe()
    before = drawn(probe.detail)
    click(probe, 0.05, 0.95)
    assert probe.error is None
    assert "(-0.900, 0.900)" in probe.status.value
    after = drawn(probe.detail)
    assert after.shape == before.shape and not np.array_equal(after, before)
    assert np.array_equal(after, np.asarray(probe.render(-0.9, 0.9)))


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (0, 1), (0.5, 1), (1, 0.5)])
def test_the_branch_probe_on_the_very_border(place):
    """The outermost pixel answers: no query leaves the picture."""
    probe = diinn_probe()
    click(probe, *place)
    assert probe.error is None
    row, col = (2 * p - 1 for p in place)
    coord = probe.territory(row, col)
    assert coord.abs().max() < 1
    if place == (1, 1):
        same = probe.territory(middle(4, 5), middle(5, 6))
        assert torch.allclose(coord, same, atol=1e-6)


def test_an_error_inside_the_branch_probe_is_kept_and_shown():
    probe = diinn_probe()

    def broken(*_):
        raise RuntimeError("no branches today")

    probe.model.branches = broken
    click(probe, 0.3, 0.3)
    assert isinstance(probe.error, RuntimeError)
    assert "no branches today" in probe.status.value


@pytest.mark.parametrize(
    "options",
    [
        {"modulation_input": "m"},
        {"modulation_input": "mz"},
        {"sine": False},
        {"scale_input": "area"},
        {"skip": False},
    ],
)
def test_the_branch_probe_works_for_other_variants(options):
    probe = diinn_probe(**options)
    click(probe, 0.7, 0.2)
    assert probe.error is None
    for layer in probe.layers(0.4, -0.6):
        assert np.allclose(layer["product"], layer["modulation"] * layer["sine"])
        constant = np.ptp(layer["modulation"], axis=(1, 2)).max() == 0
        assert constant or "modulation_input" not in options


def test_the_branch_probe_of_layers_narrower_than_its_picture():
    probe = diinn_probe(hidden=(2, 4))
    assert [len(layer["units"]) for layer in probe.layers(0, 0)] == [2, 3]
    click(probe, 0.7, 0.2)
    assert probe.error is None


def test_the_branch_probe_of_a_picture_of_one_pixel():
    probe = diinn_probe(picture(1, 1))
    click(probe, 1, 0)
    assert probe.error is None


# SliceExplorer

SLICINGS = ("linear", "rows", "constant", "fixed")


def slow_slices(n_rows: int, n_cols: int, slicing: str) -> list[dict]:
    """Three by three groups of an output of 10 low-resolution pixels, cut one by one.

    A list of {(row, col): number of its slice}, one for every group.
    """
    groups = {}
    for r in range(n_rows):
        for c in range(n_cols):
            i, j = (2 * r + 1) * 10 // (2 * n_rows), (2 * c + 1) * 10 // (2 * n_cols)
            if i < 3 and j < 3:
                groups.setdefault((i, j), []).append((r, c))
    found = []
    for pixels in groups.values():
        u = {
            "linear": -(-n_cols // 10),
            "rows": len({c for _, c in pixels}),
            "constant": len(pixels),
            "fixed": 4,
        }[slicing]
        found.append({pixel: k // u for k, pixel in enumerate(pixels)})
    return found


def expected_counts(groups: list[dict]) -> dict[str, int]:
    return {
        "pixels": sum(len(group) for group in groups),
        "groups": len(groups),
        "slices": sum(len(set(group.values())) for group in groups),
    }


def test_slice_options_are_those_of_the_model():
    assert SliceExplorer().slicing.options == SLICINGS
    for slicing in SLICINGS:
        DIIFOptions(slicing=slicing, slice_ensemble=slicing != "fixed")


@pytest.mark.parametrize("slicing", SLICINGS)
@pytest.mark.parametrize("scale", [1, 2.5, 4, 12])
def test_slices_are_counted_and_coloured(scale, slicing):
    """One colour in a slice, another one in the next slice of the group."""
    check_slices((scale, scale), slicing)


@pytest.mark.parametrize("slicing", SLICINGS)
@pytest.mark.parametrize("scales", [(2.5, 4), (4, 2.5), (1, 3.7), (7.5, 2)])
def test_slices_of_unequal_scales(scales, slicing):
    check_slices(scales, slicing)


def check_slices(scales, slicing) -> None:
    explorer = SliceExplorer()
    drawing, counts = explorer.render(scales, slicing)
    n_rows, n_cols = (round(10 * scale) for scale in scales)
    groups = slow_slices(n_rows, n_cols, slicing)
    assert counts == expected_counts(groups)
    pixels = np.asarray(drawing)
    side = pixels.shape[0] - 1
    assert pixels.shape == (361, 361, 3)
    firsts = []
    for group in groups:
        colours = {}
        for (r, c), number in group.items():
            y, x = (
                (k + 0.3) * side * 10 / 3 / n for k, n in ((r, n_rows), (c, n_cols))
            )
            colours.setdefault(number, set()).add(tuple(pixels[int(y), int(x)]))
        assert all(len(found) == 1 for found in colours.values())
        chain = [colours[number].pop() for number in sorted(colours)]
        assert all(a != b for a, b in zip(chain[:-1], chain[1:], strict=True))
        assert not {(0, 0, 0), (255, 255, 255)} & set(chain)
        firsts.append(chain[0])
    for k, first in enumerate(firsts):  # nor do two neighbouring groups begin alike
        neighbours = [k + 3] * (k < 6) + [k + 1] * (k % 3 < 2)
        assert all(first != firsts[n] for n in neighbours)


def test_the_explorer_draws_low_resolution_pixels_as_a_grid():
    pixels = np.asarray(SliceExplorer().render((4, 4), "linear")[0])
    for edge in (0, 120, 240, 360):
        assert not pixels[edge].any() and not pixels[:, edge].any()
    assert pixels[60].any(-1).mean() > 0.9


@pytest.mark.parametrize("scale", [1, 4, 12])
def test_output_pixels_stand_apart(scale):
    """White between two pixels of one slice."""
    pixels = np.asarray(SliceExplorer().render((scale, scale), "constant")[0])
    width = 120 // scale
    if scale > 1:
        assert (pixels[width // 3, [width, 2 * width]] == 255).all()
        assert (pixels[[width, 2 * width], width // 3] == 255).all()
    assert not (pixels[width // 3, [width // 3, width * 2 // 3]] == 255).all()


def test_scales_of_a_slider_are_not_exact():
    """1 + 16 steps of 0.1 may be a hair under 2.6: sizes are rounded."""
    explorer = SliceExplorer()
    counts = [
        explorer.render((scale, scale), "linear")[1]
        for scale in (2.6, 2.6 - 1e-12, 2.6 + 1e-12)
    ]
    assert counts == [expected_counts(slow_slices(26, 26, "linear"))] * 3


def test_linear_and_rows_differ_where_the_scale_is_not_whole():
    explorer = SliceExplorer()
    pictures = {
        (scale, slicing): np.asarray(explorer.render((scale, scale), slicing)[0])
        for scale in (2.5, 4)
        for slicing in ("linear", "rows")
    }
    assert not np.array_equal(pictures[2.5, "linear"], pictures[2.5, "rows"])
    assert np.array_equal(pictures[4, "linear"], pictures[4, "rows"])


def test_the_explorer_begins_as_asked_and_says_what_it_shows():
    explorer = SliceExplorer(2.5, "rows")
    assert explorer.error is None
    counts = expected_counts(slow_slices(25, 25, "rows"))
    picture, found = explorer.render((2.5, 2.5), "rows")
    assert found == counts
    assert np.array_equal(drawn(explorer.picture), np.asarray(picture))
    pixels, slices = counts["pixels"], counts["slices"]
    assert explorer.status.value == (
        f"{pixels} output pixels in 9 groups and {slices} slices: "
        f"one slice for {pixels / slices:.1f} pixels"
    )


@pytest.mark.parametrize("moved, other", [("rows", "cols"), ("cols", "rows")])
def test_linked_sliders_follow_each_other(moved, other):
    explorer = SliceExplorer()
    getattr(explorer, moved).value = 7.3
    assert getattr(explorer, other).value == 7.3
    assert explorer.error is None
    expected = explorer.render((7.3, 7.3), "linear")[0]
    assert np.array_equal(drawn(explorer.picture), np.asarray(expected))


def test_a_move_of_linked_sliders_draws_once(monkeypatch):
    explorer, asked = SliceExplorer(), []
    monkeypatch.setattr(explorer, "draw", lambda: asked.append(explorer.rows.value))
    explorer.cols.value = 5
    explorer.rows.value = 6
    assert asked == [5, 6]


def test_unlinked_sliders_move_alone_until_they_are_linked_again():
    explorer = SliceExplorer()
    explorer.together.value = False
    explorer.cols.value = 2.5
    assert (explorer.rows.value, explorer.cols.value) == (4, 2.5)
    expected = explorer.render((4, 2.5), "linear")[0]
    assert np.array_equal(drawn(explorer.picture), np.asarray(expected))
    explorer.together.value = True
    assert (explorer.rows.value, explorer.cols.value) == (4, 4)
    expected = explorer.render((4, 4), "linear")[0]
    assert np.array_equal(drawn(explorer.picture), np.asarray(expected))


def test_another_slicing_is_drawn_at_once():
    explorer = SliceExplorer(2.5)
    explorer.slicing.value = "fixed"
    expected = explorer.render((2.5, 2.5), "fixed")[0]
    assert np.array_equal(drawn(explorer.picture), np.asarray(expected))


def test_an_error_in_the_slice_explorer_is_shown_until_it_draws_again(monkeypatch):
    explorer = SliceExplorer()
    before = explorer.picture.value

    def broken(*_):
        raise RuntimeError("no slices today")

    with monkeypatch.context() as patch:
        patch.setattr(explorer, "render", broken)
        explorer.rows.value = 5
    assert isinstance(explorer.error, RuntimeError)
    assert "Not drawn: no slices today" in explorer.status.value
    assert explorer.picture.value == before
    explorer.rows.value = 6
    assert explorer.error is None
    assert "Not drawn" not in explorer.status.value
    assert explorer.picture.value != before


def test_the_explorer_shows_a_sheet_for_readers_on_paper(shown):
    explorer = SliceExplorer()
    explorer.show(((4, "linear"), (2.5, "rows")))
    assert shown[0] is explorer
    slices = expected_counts(slow_slices(25, 25, "rows"))["slices"]
    assert shown[1].alt == (
        "Output pixels in the colours of their slices: "
        f"×4, linear: 36 slices; ×2.5, rows: {slices} slices"
    )


# DigitExplorer

INSIDE = 0.31, 0.58  # never half way between two dots
SIDES = {8: 8, 3.3: 3, 2.5: 3, 30: 30}  # dots along an axis, at each scale


def slow_places(scale: float) -> list[Fraction]:
    """Where output pixels lie between the codes at 4 and 5 of 10, exactly."""
    n = round(10 * scale)
    positions = [Fraction((2 * i + 1) * 10, 2 * n) - Fraction(1, 2) for i in range(n)]
    return [p - 4 for p in positions if 4 <= p < 5]


def slow_digits(t: Fraction, levels: int) -> list[int]:
    """By halves: 1 where what is left reaches the next one."""
    found = []
    for k in range(1, levels + 1):
        found.append(int(t >= Fraction(1, 2**k)))
        t -= found[-1] * Fraction(1, 2**k)
    return found


def slow_nearest(scale: float, place) -> tuple[Fraction, Fraction]:
    return tuple(
        min(slow_places(scale), key=lambda t: abs(t - Fraction(p))) for p in place
    )


def slow_depths(scale: float, place, levels: int) -> dict[tuple, int]:
    """{(row, column): how many levels, from the first on, it shares with the chosen}"""
    row, col = (slow_digits(t, levels) for t in slow_nearest(scale, place))
    found = {}
    for r, c in product(slow_places(scale), repeat=2):
        rows, cols = slow_digits(r, levels), slow_digits(c, levels)
        alike = [rows[k] == row[k] and cols[k] == col[k] for k in range(levels)]
        found[r, c] = [*alike, False].index(False)
    return found


def chosen(explorer) -> tuple[float, float]:
    """What the widget says that it shows."""
    words = explorer.status.value.removeprefix("chosen pixel: row ")
    return tuple(float(word) for word in words.split(", column "))


def send(explorer, **message) -> None:
    explorer.picture._handle_custom_msg(message, [])


def shown_by(explorer) -> np.ndarray:
    """The pixels of its picture."""
    return np.asarray(Image.open(io.BytesIO(explorer.picture.data)))


@pytest.mark.parametrize("levels", [1, 3, 6])
@pytest.mark.parametrize("place", [INSIDE, (0.02, 0.98), (0.77, 0.41)])
@pytest.mark.parametrize("scale", [8, 3.3, 2.5, 30])
def test_sharers_are_counted(scale, place, levels):
    explorer = DigitExplorer()
    _, table = explorer.render(scale, place, levels)
    depths = list(slow_depths(scale, place, levels).values())
    assert len(depths) == SIDES[scale] ** 2
    counts = [sum(depth > k for depth in depths) for k in range(levels)]
    there = slow_nearest(scale, place)
    row, col = (slow_digits(t, levels) for t in there)
    assert table == list(zip(range(levels), row, col, counts, strict=True))
    assert explorer.chosen(scale, place) == pytest.approx(there, abs=1e-5)


def test_levels_halve_the_square_at_scale_eight():
    """64 dots: a quarter shares the first digits, then one of four of those."""
    for place in (INSIDE, (0.9, 0.1)):
        _, table = DigitExplorer().render(8, place, 5)
        assert [line[-1] for line in table] == [16, 4, 1, 1, 1]


@pytest.mark.parametrize("scale, levels", [(8, 1), (8, 3), (3.3, 2), (2.5, 6), (8, 6)])
def test_colours_say_how_many_levels_are_shared(scale, levels):
    """Orange shares all of them; the others are the bluer, the more they share."""
    explorer, place = DigitExplorer(), INSIDE
    pixels = np.asarray(explorer.render(scale, place, levels)[0]).astype(int)
    assert pixels.shape == (384, 384, 3)
    shades = {}
    for (r, c), depth in slow_depths(scale, place, levels).items():
        y, x = (min(round(float(t) * 384), 383) for t in (r, c))
        shades.setdefault(depth, []).append(pixels[y, x])
    for found in shades.values():
        assert np.ptp(found, axis=0).max() == 0
    assert np.array_equal(shades.pop(levels)[0], colour(1))
    whites = []
    for depth in sorted(shades):
        red, green, blue = shades[depth][0]
        assert blue > green > red
        whites.append(red)
    assert whites == sorted(set(whites), reverse=True) and max(whites) < 255


def test_a_ring_marks_the_chosen_pixel_and_boxes_lead_to_it():
    explorer = DigitExplorer()
    pixels = np.asarray(explorer.render(8, INSIDE, 2)[0]).astype(int)
    row, col = (float(t) * 384 for t in slow_nearest(8, INSIDE))
    black = np.argwhere(pixels.max(-1) == 0)
    distance = np.hypot(*(black - [row, col]).T)
    assert len(black) > 20 and distance.min() > 6 and distance.max() < 10
    # Its digits are 01 and 10: a box in the upper right, the lower left one in that.
    half, quarter, outside = pixels[20, 340], pixels[110, 280], pixels[300, 100]
    assert half[0] == quarter[0] == 255
    assert 255 > half[1] > quarter[1] and half[1] == half[2]
    assert (outside == 255).all()


@pytest.mark.parametrize("scale", [8, 3.3, 30])
def test_a_click_chooses_the_nearest_pixel(scale):
    explorer = DigitExplorer(scale)
    for place in (INSIDE, (0.999, 0.001), (0.29, 0.94)):
        send(explorer, type="click", row=place[0], col=place[1])
        assert explorer.error is None
        expected = slow_nearest(scale, place)
        assert chosen(explorer) == pytest.approx(expected, abs=1e-3)
        drawing, _ = explorer.render(scale, place, 3)
        assert np.array_equal(shown_by(explorer), np.asarray(drawing))


@pytest.mark.parametrize("scale", [8, 3.3, 12])
def test_arrow_keys_choose_the_neighbour_and_stop_at_the_border(scale):
    explorer, there = DigitExplorer(scale), slow_places(scale)
    send(explorer, type="click", row=float(there[1]), col=float(there[1]))
    at, last = [1, 1], len(there) - 1
    for rows, cols in [(1, 0), (0, -1), (-1, 0), (0, 1)] + [(-1, 1)] * 14 + [(1, -1)]:
        send(explorer, type="key", rows=rows, cols=cols)
        at = [min(max(a + d, 0), last) for a, d in zip(at, (rows, cols), strict=True)]
        assert explorer.error is None
        assert chosen(explorer) == pytest.approx([there[k] for k in at], abs=1e-3)
    assert at == [1, last - 1]  # one press leads back, however often it was pressed


@pytest.mark.parametrize("message", [{"type": "drag"}, {"type": "wheel"}, {}])
def test_the_digit_explorer_ignores_other_messages(message):
    explorer = DigitExplorer()
    before = explorer.picture.data, explorer.status.value, explorer.table.value
    send(explorer, **message, row=0.9, col=0.1, rows=1, cols=1, start=True)
    assert explorer.error is None
    assert (explorer.picture.data, explorer.status.value, explorer.table.value) == (
        before
    )


def test_sliders_of_the_digit_explorer_draw_at_once():
    """The place stays, and the table has a line for every level."""
    explorer, place = DigitExplorer(), (0.71, 0.2)
    send(explorer, type="click", row=place[0], col=place[1])
    for slider, value in ((explorer.scale, 3.3), (explorer.levels, 5)):
        slider.value = value
        assert explorer.error is None
        scale, levels = explorer.scale.value, explorer.levels.value
        drawing, table = explorer.render(scale, place, levels)
        assert np.array_equal(shown_by(explorer), np.asarray(drawing))
        assert chosen(explorer) == pytest.approx(slow_nearest(scale, place), abs=1e-3)
        numbers = map(int, re.findall(r">(\d+)</td>", explorer.table.value))
        assert list(numbers) == [number for line in table for number in line]


def test_the_digit_explorer_says_in_words_what_it_shows():
    explorer = DigitExplorer(2.5, 2)
    send(explorer, type="click", row=0.31, col=0.58)
    row, col = slow_nearest(2.5, INSIDE)
    assert explorer.status.value == (
        f"chosen pixel: row {float(row):.3f}, column {float(col):.3f}"
    )
    assert explorer.picture.alt == (
        "square between four latent codes at scale 2.5, chosen pixel at "
        f"row {float(row):.3f}, column {float(col):.3f}"
    )


def test_an_error_in_the_digit_explorer_is_shown_until_it_draws_again(monkeypatch):
    explorer = DigitExplorer()
    before = explorer.picture.data

    def broken(*_):
        raise RuntimeError("no digits today")

    with monkeypatch.context() as patch:
        patch.setattr(explorer, "render", broken)
        explorer.levels.value = 2
    assert isinstance(explorer.error, RuntimeError)
    assert "Not drawn: no digits today" in explorer.status.value
    assert explorer.picture.data == before
    send(explorer, type="click", row=0.9, col=0.1)
    assert explorer.error is None
    assert "Not drawn" not in explorer.status.value
    assert explorer.picture.data != before


def test_the_digit_explorer_shows_a_sheet_for_readers_on_paper(shown):
    explorer = DigitExplorer()
    explorer.place = INSIDE
    explorer.show(((8, 1), (2.5, 2)))
    assert shown[0] is explorer
    assert list(slow_depths(2.5, INSIDE, 2).values()).count(2) == 1
    assert shown[1].alt == (
        "The square between four codes and the digits of one pixel: "
        "×8, 1 level: 16 pixels share; ×2.5, 2 levels: 1 pixel alone"
    )
    sheet = np.asarray(Image.open(io.BytesIO(shown[1].data)).convert("RGB"))
    for scale, levels in ((8, 1), (2.5, 2)):
        drawing, _ = explorer.render(scale, INSIDE, levels)
        assert len(places(sheet, np.asarray(drawing))) == 1


def test_one_pixel_in_the_square_at_scale_one():
    """It lies on the first code, and whatever is done it is the chosen one."""
    explorer = DigitExplorer(1, 6)
    assert explorer.render(1, (0.9, 0.9), 6)[1] == [(k, 0, 0, 1) for k in range(6)]
    send(explorer, type="click", row=0.99, col=0.99)
    send(explorer, type="key", rows=1, cols=-1)
    assert explorer.error is None and chosen(explorer) == (0, 0)
    assert np.array_equal(shown_by(explorer)[0, 0], colour(1))


def test_many_pixels_and_all_levels():
    """At the largest scale a dot in 64 x 64 boxes has no neighbour in its own."""
    explorer = DigitExplorer(30, 6)
    send(explorer, type="click", row=0.31, col=0.58)
    assert explorer.error is None
    assert explorer.table.value.count("<tr>") == 7
    depths = slow_depths(30, INSIDE, 6)
    assert len(depths) == 900 and list(depths.values()).count(6) == 1
    pixels = shown_by(explorer)
    orange = (pixels == colour(1)).all(-1)
    row, col = (float(t) * 384 for t in slow_nearest(30, INSIDE))
    assert np.hypot(*(np.argwhere(orange) - [row, col]).T).max() < 5


@pytest.mark.parametrize("place", [(0, 0), (1, 1), (-0.4, 1.7), (0.5, 1)])
@pytest.mark.parametrize("scale", [1, 2.5, 8, 30])
def test_the_digit_explorer_on_the_border_and_beyond(scale, place):
    """The outermost pixel is chosen; the next key counts from there."""
    explorer = DigitExplorer(scale)
    send(explorer, type="click", row=place[0], col=place[1])
    assert explorer.error is None
    expected = slow_nearest(scale, [min(max(p, 0), 0.999) for p in place])
    assert chosen(explorer) == pytest.approx(expected, abs=1e-3)


# RateProbe

AWAY = 0, 99  # the ring that marks the place falls outside of the drawing
every_rate_probe = pytest.mark.parametrize(
    "options",
    [
        {},
        {"layers": 1},
        {"layers": 3},
        {"paeb": False},
        {"dictionary": False},
        {"diffusion": "identity"},
        {"dictionary": False, "diffusion": "identity"},
    ],
)


def rate_probe(image=None, scale=4, **options) -> RateProbe:
    image = picture(5, 6) if image is None else image
    return RateProbe(awake(build("diin", "tiny", **options)), image, scale)


def asked(probe, row, col) -> torch.Tensor:
    """The centres of all input pixels, row by row, and the place: (1, n + 1, 1, 2)."""
    H, W = probe.image.shape[:2]
    centres = product(
        [middle(i, H) for i in range(H)], [middle(j, W) for j in range(W)]
    )
    return torch.tensor([*centres, (row, col)])[None, :, None]


@torch.no_grad()
def slow_rates(probe, row, col) -> list[dict]:
    """By the formulas with all pairs at once, and a dictionary made in one piece."""
    model, features = probe.model, probe.features
    z, A = model.sample(features, asked(probe, row, col), probe.cell), None
    if model.options.dictionary:
        D = model.tokens
        A, x = model.listen_to_latents(features, D)
    found = []
    for k, layer in enumerate(model.layers):
        tokens, heard = None, 0
        if model.options.dictionary:
            refine = model.refine[k]
            D = refine(D, refine.gather(A, x, refine.moments(A)))
            A = layer.listen.attend(z, D)
            tokens, heard = A[0, -1].numpy(), A @ layer.listen.v(D)
        q, key, v = (
            layer.qkv(z).chunk(3, dim=-1) if layer.mixes else (None, None, layer.qkv(z))
        )
        own, P = np.zeros(z.shape[1] - 1), v
        if layer.mixes:
            weight = 1 + F.cosine_similarity(q[0, :, None], key[0], dim=-1)
            own = (weight[-1, :-1] / weight[-1, :-1].mean()).numpy()
            P = weight / weight.sum(dim=1, keepdim=True) @ v
        shape = probe.image.shape[:2]
        found.append({"rates": own.reshape(shape), "tokens": tokens})
        z = x = layer(z, P, heard)
    return found


def same_layers(found, expected, atol=2e-5) -> bool:
    """Whether two lists of layers hold the same numbers."""
    assert len(found) == len(expected)
    pairs = [
        (a[name], b[name])
        for a, b in zip(found, expected, strict=True)
        for name in ("rates", "tokens")
        if b[name] is not None or a[name] is not None
    ]
    return all(
        np.shape(a) == np.shape(b) and np.allclose(a, b, rtol=0, atol=atol)
        for a, b in pairs
    )


def hooked(model) -> list:
    """The modules that call somebody when they run."""
    return [m for m in model.modules() if m._forward_hooks or m._forward_pre_hooks]


@every_rate_probe
@pytest.mark.parametrize("place", [HERE, (0.13, -0.4), (-1, -1), (1, -1), (1, 1)])
def test_rates_and_tokens_are_those_of_the_formulas(options, place):
    probe = rate_probe(**options)
    assert same_layers(probe.layers(*place), slow_rates(probe, *place))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (9, 4), (3, 11)])
def test_rates_of_pictures_of_any_shape(size):
    probe = rate_probe(picture(*size))
    assert same_layers(probe.layers(0.4, -0.7), slow_rates(probe, 0.4, -0.7))
    click(probe, 0.9, 0.1)
    assert probe.error is None


@every_rate_probe
def test_rates_have_a_mean_of_one_and_tokens_share_one(options):
    layers = rate_probe(**options).layers(*HERE)
    assert len(layers) == options.get("layers", 2)
    for layer in layers:
        rates, tokens = layer["rates"], layer["tokens"]
        assert rates.shape == (5, 6)
        if "diffusion" in options:
            assert (rates == 0).all()
        else:
            assert abs(rates.mean() - 1) < 1e-5
            assert rates.min() > -1e-5 and rates.std() > 1e-3
        if "dictionary" in options:
            assert tokens is None
        else:
            assert tokens.shape == (16,) and tokens.min() >= 0
            assert abs(tokens.sum() - 1) < 1e-5 and tokens.std() > 1e-3


def test_rates_differ_between_layers_and_places():
    probe = rate_probe()
    here, there = probe.layers(*HERE), probe.layers(-0.7, 0.2)
    for name in ("rates", "tokens"):
        for one, other in ((here[0], here[1]), *zip(here, there, strict=True)):
            assert np.abs(one[name] - other[name]).max() > 1e-3


@pytest.mark.parametrize("pixel", [(0, 0), (0, 6), (2, 5), (3, 1), (3, 6)])
def test_where_keys_are_queries_a_pixel_hears_itself_most(pixel):
    """So a map has its rows and columns where the picture has them."""
    probe = rate_probe(picture(4, 7))
    qkv = probe.model.layers[0].qkv
    for parameter in (qkv.weight.data, qkv.bias.data):
        parameter[32:64] = parameter[:32]
    rates = probe.layers(middle(pixel[0], 4), middle(pixel[1], 7))[0]["rates"]
    assert np.unravel_index(rates.argmax(), rates.shape) == pixel


def test_the_model_hears_of_all_centres_and_then_of_the_place(monkeypatch):
    probe, seen = rate_probe(), []
    decode = probe.model.decode

    def watched(*given):
        seen.append(given)
        return decode(*given)

    monkeypatch.setattr(probe.model, "decode", watched)
    probe.layers(0.3, -0.8)
    ((features, coord, cell),) = seen  # once for all layers
    assert torch.allclose(coord, asked(probe, 0.3, -0.8), atol=1e-7)
    assert torch.equal(cell, make_cell((20, 24))[None])
    assert features is probe.features


@pytest.mark.parametrize("paeb", [True, False])
def test_rates_follow_the_pixel_size_where_the_model_does(paeb):
    model = awake(build("diin", "tiny", paeb=paeb))
    small, large = (RateProbe(model, picture(5, 6), scale) for scale in (2, 8))
    assert same_layers(small.layers(*HERE), large.layers(*HERE), 1e-4) != paeb


@every_rate_probe
def test_no_hooks_stay_behind(options):
    probe = rate_probe(**options)
    assert hooked(probe.model) == []
    own = probe.model.layers[0].qkv
    handle = own.register_forward_hook(lambda *_: None)
    probe.layers(*HERE)
    click(probe, 0.2, 0.7)
    assert hooked(probe.model) == [own] and len(own._forward_hooks) == 1
    handle.remove()


@pytest.mark.parametrize(
    "place", ["", "embed", "layers.0", "layers.0.listen", "layers.1", "head"]
)
def test_no_hooks_stay_behind_an_error(place, monkeypatch):
    """Wherever in decode it happens; the next look is as good as one before."""
    probe = rate_probe()
    before = probe.layers(*HERE)

    def broken(*_):
        raise RuntimeError("no rates today")

    with monkeypatch.context() as patch:
        name = "forward" if place else "decode"
        patch.setattr(probe.model.get_submodule(place), name, broken)
        with pytest.raises(RuntimeError, match="no rates today"):
            probe.layers(*HERE)
    assert hooked(probe.model) == []
    assert same_layers(probe.layers(*HERE), before, 0)


def test_an_error_inside_the_rate_probe_is_shown_until_a_click_succeeds(monkeypatch):
    probe = rate_probe()
    before = probe.detail.value, probe.map.data

    def broken(*_):
        raise RuntimeError("no rates <today>")

    with monkeypatch.context() as patch:
        patch.setattr(probe.model.head, "forward", broken)
        click(probe, 0.3, 0.3)
    assert isinstance(probe.error, RuntimeError)
    assert "Not drawn: no rates &lt;today&gt;" in probe.status.value
    assert (probe.detail.value, probe.map.data) == before
    click(probe, 0.3, 0.3)
    assert probe.error is None
    assert probe.status.value == "query (row, col) = (-0.400, -0.400)"
    assert probe.detail.value != before[0] and probe.map.data != before[1]


@every_rate_probe
def test_a_click_moves_the_rate_probe_and_changes_its_picture(options):
    probe = rate_probe(**options)
    before = drawn(probe.detail)
    assert np.array_equal(before, np.asarray(probe.render(0, 0)))
    click(probe, 0.05, 0.95)
    assert probe.error is None
    assert "(-0.900, 0.900)" in probe.status.value
    after = drawn(probe.detail)
    assert after.shape == before.shape and not np.array_equal(after, before)
    assert np.array_equal(after, np.asarray(probe.render(-0.9, 0.9)))


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1), (0.5, 1), (-3, 2)])
def test_the_rate_probe_on_the_very_border(place):
    probe = rate_probe(picture(4, 7), layers=1)
    click(probe, *place)
    assert probe.error is None
    row, col = (2 * min(max(p, 0), 1) - 1 for p in place)
    assert np.array_equal(drawn(probe.detail), np.asarray(probe.render(row, col)))
    assert same_layers(probe.layers(row, col), slow_rates(probe, row, col))


def some_layers(number, size, tokens=None) -> list[dict]:
    """Layers with random rates."""
    rng = np.random.default_rng(number)
    rates = rng.random((number, *size)) + 0.5
    return [{"rates": r / r.mean(), "tokens": tokens} for r in rates]


@pytest.mark.parametrize("size", [(5, 6), (9, 4), (2, 7), (7, 2), (30, 250)])
def test_the_picture_has_a_map_for_every_layer(size, shaded):
    """One below the other, and a ring in each where the place is."""
    probe, layers = rate_probe(picture(*size), layers=1), some_layers(3, size)
    probe.layers = lambda row, col: layers
    shaded.clear()
    pixels = np.asarray(probe.render(*AWAY)).astype(int)
    zoom = 200 // max(size) or 1
    corners = []
    for (values, made), layer in zip(shaded, layers, strict=True):
        assert np.corrcoef(values.ravel(), layer["rates"].ravel())[0, 1] > 0.9999
        assert made.shape[:2] == (size[0] * zoom - 2, size[1] * zoom - 2)
        corners += places(pixels, made)
    assert len(corners) == 3
    rows, cols = np.transpose(corners)
    assert np.ptp(cols) == 0 and np.diff(rows).min() > size[0] * zoom

    row, col = 0.3, -0.4
    ring = np.argwhere((np.asarray(probe.render(row, col)) != pixels).any(-1))
    way = [(row + 1) / 2 * size[0] * zoom - 1, (col + 1) / 2 * size[1] * zoom - 1]
    distance = [np.abs(ring - np.add(corner, way)).max(-1) for corner in corners]
    assert np.min(distance, axis=0).max() < 6  # nothing else has changed
    for k in range(3):
        own = ring[distance[k] < 6]
        assert np.abs(own.mean(axis=0) - np.add(corners[k], way)).max() < 1


@pytest.mark.parametrize("strength", [1, -1, 1e-3])
def test_rates_above_the_mean_are_orange_and_below_it_blue(strength, shaded):
    """By the same measure; the farthest from the mean in the full colour."""
    probe = rate_probe(picture(2, 3), layers=1)
    away = strength * np.array([[0, 0.5, -0.25], [-0.125, 0.375, 0]])
    flat = {"rates": np.ones((2, 3)), "tokens": None}
    layers = [{"rates": 1 + away, "tokens": None}, flat]
    probe.layers = lambda row, col: layers
    shaded.clear()
    probe.render(*AWAY)
    (_, made), (_, plain) = shaded
    blue, orange = 255 - colour(0).astype(int), 255 - colour(1).astype(int)
    for i, j in np.ndindex(2, 3):
        share = away[i, j] / abs(away).max()
        expected = 255 - abs(share) * (orange if share > 0 else blue)
        assert np.abs(made[33 + 66 * i, 33 + 66 * j] - expected).max() <= 1
    assert (plain == 255).all()  # all rates alike


def bars(pixels) -> list[np.ndarray]:
    """For every layer which pixels are bars: (rows, columns), cut to what is blue."""
    blue = (pixels == colour(0)).all(-1)
    rows, cols = np.flatnonzero(blue.any(axis=1)), np.flatnonzero(blue.any(axis=0))
    groups = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    return [blue[r[0] : r[-1] + 1, cols[0] : cols[-1] + 1] for r in groups if len(r)]


def test_bars_are_as_high_as_the_tokens_weigh():
    """Beside the map of their layer; its tallest bar is as high as the map."""
    probe = rate_probe()
    weights = [[0.5, 0.25, 0.125, 0.125], [0.1, 0.2, 0.3, 0.4], [0.25] * 4]
    layers = [{"rates": np.ones((5, 6)), "tokens": np.array(w)} for w in weights]
    probe.layers = lambda row, col: layers
    found = bars(np.asarray(probe.render(*HERE)))
    assert len(found) == 3
    for bar, tokens in zip(found, weights, strict=True):
        high, wide = bar.shape
        assert abs(high - 5 * 33) <= 2
        assert bar[-1].mean() > 0.95  # all stand on one floor
        middles = [int((m + 0.5) * wide / 4) for m in range(4)]
        share = bar.sum(axis=0)[middles] / high
        assert np.allclose(share, np.array(tokens) / max(tokens), atol=0.01)


@pytest.fixture
def written(monkeypatch):
    """Every text that is drawn."""
    found, text = [], ImageDraw.ImageDraw.text

    def watched(draw, place, words, *more):
        found.append(words)
        return text(draw, place, words, *more)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", watched)
    return found


def test_without_a_dictionary_there_are_no_bars(written):
    probe = rate_probe(dictionary=False)
    layers = [{**layer, "rates": np.ones((5, 6))} for layer in probe.layers(*HERE)]
    probe.layers = lambda row, col: layers
    written.clear()
    assert bars(np.asarray(probe.render(*HERE))) == []
    assert not any("token" in text for text in written)


@pytest.mark.parametrize("tokens", [1, 300])
def test_bars_of_one_token_and_of_more_than_there_is_room_for(tokens):
    probe = rate_probe(tokens=tokens)
    assert probe.layers(*HERE)[1]["tokens"].shape == (tokens,)
    flat = {"rates": np.ones((5, 6)), "tokens": np.ones(tokens)}
    probe.layers = lambda row, col: [flat]
    (bar,) = bars(np.asarray(probe.render(*HERE)))
    assert bar.all() and bar.shape[1] > 200


@pytest.mark.parametrize(
    "tokens, worth, tallest",
    [
        ([0.25] * 4, "4.0 of 4", "0.25"),
        ([0, 1, 0, 0], "1.0 of 4", "1.00"),
        ([0.5, 0, 0.5, 0, 0], "2.0 of 5", "0.50"),
        ([0.5, 0.25, 0.25], "2.8 of 3", "0.50"),  # two to the power of 1.5 bits
    ],
)
def test_words_say_to_how_many_tokens_it_listens(tokens, worth, tallest, written):
    probe = rate_probe(layers=1)
    layers = some_layers(1, (5, 6), np.array(tokens))
    probe.layers = lambda row, col: layers
    written.clear()
    probe.render(*HERE)
    assert f"listens to tokens: as to {worth}" in written
    assert f"tallest: {tallest}" in written


def test_words_say_how_far_rates_go(written):
    probe, layers = rate_probe(), some_layers(2, (5, 6))
    probe.layers = lambda row, col: layers
    written.clear()
    probe.render(*HERE)
    for k, layer in enumerate(layers):
        title, ends = written[2 * k : 2 * k + 2]
        assert title.startswith(f"layer {k + 1},")
        far = abs(layer["rates"] - 1).max()
        assert ends == f"blue {1 - far:.2f}, white 1, orange {1 + far:.2f}"


# DenoisingPlayer


class Calls(list):
    """Sees every question to a network: how many, and to how many pictures."""

    def __init__(self, model):
        model.unet.register_forward_pre_hook(
            lambda _, given: self.append(len(given[0]))
        )


def player(samples=2, **options) -> DenoisingPlayer:
    """From 4 x 5 to 12 x 15 pixels, step by step."""
    model = awake(build("idm", "tiny", **options))
    made = DenoisingPlayer(model, picture(4, 5), samples, scale=3)
    made.calls = Calls(model)
    return made


def pixels_of(playing) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(playing.picture.data)))


def steps_of(playing, size, seed, scale) -> list:
    """The chain that a player should show."""
    lr = to_tensor(playing.image).repeat(playing.samples, 1, 1, 1)
    return list(playing.model.chain(lr, size, 25, seed, scale=scale))


def same_films(film, steps) -> bool:
    return len(film.steps) == len(steps) and all(
        torch.allclose(a.y, b.y, atol=1e-5) and torch.allclose(a.y0, b.y0, atol=1e-5)
        for a, b in zip(film.steps, steps, strict=True)
    )


def test_a_film_is_the_sampler_s_chain_from_noise_to_pictures():
    playing = player()
    assert playing.error is None
    film = playing.film
    assert [step.done for step in film.steps] == list(range(1, 26))
    assert same_films(film, steps_of(playing, (12, 15), 0, 3.0))
    lr = torch.zeros(2, 3, 4, 5)
    assert torch.equal(film.noise, noise_source(lr, (12, 15), 0)())
    noise, nothing = film.still(0)
    assert torch.equal(noise, film.noise) and nothing is None
    y, belief = film.still(25)
    assert torch.allclose(y, belief, atol=1e-5)  # the end is what it believes in
    assert film.still(7)[0] is film.steps[6].y


def test_the_step_slider_turns_pages_without_sampling():
    playing = player()
    seen = [pixels_of(playing)]
    assert playing.step.value == 25 and "√γ = 1.00" in playing.status.value
    for number, share in ((0, "0.00"), (7, r"0.4\d"), (20, r"0.9\d")):
        playing.step.value = number
        seen.append(pixels_of(playing))
        assert not np.array_equal(seen[-1], seen[-2])
        assert re.search(f"step {number} of 25.*√γ = {share}", playing.status.value)
        assert f"after step {number} of 25" in playing.picture.alt
    playing.step.value = 25
    assert np.array_equal(pixels_of(playing), seen[0])
    assert playing.calls == []


def test_the_share_of_picture_is_the_schedule_s():
    """Ten steps of 25 go from time 1000 to 600."""
    playing = player()
    playing.step.value = 10
    share = playing.model.gamma[600].sqrt().item()
    assert f"√γ = {share:.2f}" in playing.status.value


@pytest.mark.parametrize("number", [0, 7, 25])
def test_noisy_pictures_stand_above_beliefs(number, monkeypatch):
    playing, sheets = player(), []
    monkeypatch.setattr(
        plots, "gallery", lambda *given, **more: sheets.append((given, more))
    )
    playing.render(playing.film, number)
    (((lr, *pictures), titles, side), more), *_ = sheets
    assert np.array_equal(lr, playing.image)
    assert more == {"columns": 3}  # the input and two samples
    above, (white, *below) = pictures[:2], pictures[2:]
    assert (white == 255).all()
    y, belief = playing.film.still(number)
    for k in range(2):
        assert torch.equal(above[k], 0.5 + 0.5 * y[k])
        if number:
            assert torch.equal(below[k], 0.5 + 0.5 * belief[k])
        else:
            assert (below[k] == 1).all()
    assert titles == ["input", "seed 0", "seed 1", "", "belief", "belief"]


def test_another_seed_shares_no_picture():
    playing = player()
    first, before = playing.film, playing.picture.data
    playing.seed.value = 1
    assert playing.error is None and playing.picture.data != before
    assert same_films(playing.film, steps_of(playing, (12, 15), 2, 3.0))
    for k in range(2):
        for other in first.noise:
            assert not torch.equal(playing.film.noise[k], other)
    playing.seed.value = 0
    assert same_films(playing.film, first.steps)


def test_all_samples_are_drawn_at_once():
    playing = player(samples=3)
    playing.seed.value = 4
    assert playing.calls == [3] * 25


def test_another_scale_makes_another_size_and_is_told():
    playing = player()
    playing.scale.value = 4.4
    assert playing.error is None and playing.told.value == 4.4
    assert playing.film.noise.shape == (2, 3, 18, 22)
    assert same_films(playing.film, steps_of(playing, (18, 22), 0, 4.4))
    assert "4×5 → 18×22" in playing.status.value
    assert "told" not in playing.status.value


def test_a_scale_that_is_not_true_is_told_and_noted():
    playing = player()
    honest = playing.film
    playing.told.value = 6.5
    assert playing.film.noise.shape == (2, 3, 12, 15)
    assert same_films(playing.film, steps_of(playing, (12, 15), 0, 6.5))
    assert not same_films(playing.film, honest.steps)
    assert "told that the scale is ×6.5" in playing.status.value
    playing.scale.value = 5
    assert playing.told.value == 5 and "told" not in playing.status.value


def test_a_film_that_cannot_be_is_shown_not_raised(monkeypatch):
    playing = player()
    before = playing.picture.data
    monkeypatch.setattr("asr_course.models.idm.LARGEST", 200)
    playing.scale.value = 4  # 320 pixels
    assert "200 pixels at most" in str(playing.error)
    assert "Not drawn: IDM makes a picture as a whole" in playing.status.value
    assert playing.picture.data == before
    playing.scale.value = 3
    assert playing.error is None and "12×15" in playing.status.value


def test_a_player_puts_its_model_into_eval_mode():
    model = build("idm", "tiny", dropout=0.5)
    assert model.training
    assert not DenoisingPlayer(model, picture(2, 2), 1, scale=2).model.training


async def until(playing, words: str) -> None:
    """Wait while the event loop works."""
    while words not in playing.status.value:
        await asyncio.sleep(0)


def test_inside_a_loop_it_says_how_far_it_is():
    playing, said = player(), []
    playing.status.observe(lambda change: said.append(change["new"]), "value")

    async def play():
        playing.seed.value = 3
        assert playing.calls == []  # not yet: the move itself must not wait
        await playing._task

    asyncio.run(play())
    assert said[:-1] == [f"sampling … {k}/25" for k in range(1, 26)]
    assert "step 25 of 25" in said[-1]
    assert same_films(playing.film, steps_of(playing, (12, 15), 6, 3.0))


def test_a_newer_request_ends_the_older_film():
    playing = player()

    async def play():
        playing.seed.value = 1
        await until(playing, "sampling … 4/25")
        playing.seed.value = 2
        older = playing._task
        playing.scale.value = 4
        await playing._task
        await older

    asyncio.run(play())
    assert playing.error is None
    assert 29 <= len(playing.calls) <= 31  # not three times 25
    assert same_films(playing.film, steps_of(playing, (16, 20), 4, 4.0))


def test_errors_inside_a_loop_are_shown_too(monkeypatch):
    playing = player()

    def broken(*_, **__):
        raise RuntimeError("no noise today")

    async def play():
        playing.seed.value = 1
        await playing._task

    monkeypatch.setattr(playing.model, "chain", broken)
    asyncio.run(play())
    assert "no noise today" in str(playing.error)
    assert playing.status.value.endswith("Not drawn: no noise today</span>")


def test_stills_are_displayed_for_readers_on_paper(shown, monkeypatch):
    playing, sheets, gallery = player(), [], plots.gallery

    def watched(*given, **more):
        sheets.append(given)
        return gallery(*given, **more)

    monkeypatch.setattr(plots, "gallery", watched)
    playing.show()
    assert shown[0] is playing and "One sample after steps" in shown[1].alt
    ((pictures, titles, _),) = sheets
    assert titles[:6] == [f"step {n}" for n in (0, 5, 10, 15, 20, 25)]
    assert torch.equal(pictures[0], 0.5 + 0.5 * playing.film.noise[0])
    assert torch.equal(pictures[3], 0.5 + 0.5 * playing.film.steps[14].y[0])
    assert (pictures[6] == 1).all()
    assert torch.equal(pictures[11], 0.5 + 0.5 * playing.film.steps[24].y0[0])
