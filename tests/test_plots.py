"""Figures: pixels as they are, shades, tables."""

import io
from base64 import b64decode

import numpy as np
import pytest
import torch
from helpers import picture
from IPython.display import Markdown
from PIL import Image

from asr_course import plots
from asr_course.lessons import drawing

BLUE_TO_RED = ((0, 0, 200), (255, 255, 255), (100, 0, 0))


def test_shades_lie_between_three_colours_and_stop_at_the_outer_ones():
    values = np.array([[-1.0, -0.5, 0.0], [0.5, 9.0, 0.25]])
    pixels = np.asarray(drawing.shade(values, BLUE_TO_RED)).astype(float)
    expected = [
        [(0, 0, 200), (127.5, 127.5, 227.5), (255, 255, 255)],
        [(177.5, 127.5, 127.5), (100, 0, 0), (216.25, 191.25, 191.25)],
    ]
    assert pixels.shape == (2, 3, 3)
    assert np.abs(pixels - expected).max() < 1
    large = drawing.shade(values, BLUE_TO_RED, zoom=4)
    assert np.array_equal(large, pixels.repeat(4, 0).repeat(4, 1))


def test_images_are_enlarged_by_whole_factors():
    pixels = picture(3, 5)
    large = plots.enlarge(torch.from_numpy(pixels).movedim(-1, 0) / 255, 14)
    assert np.array_equal(large, pixels.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(plots.enlarge(pixels, 1), pixels)
    assert plots.enlarge(pixels[..., 0], 5).shape == (3, 5, 3)


def test_a_gallery_holds_every_image_unchanged():
    images = [picture(6, 8, seed) for seed in range(3)]
    sheet = np.asarray(plots.gallery(images, ["a", "b\nc", "d"], side=16, columns=2))
    windows = np.lib.stride_tricks.sliding_window_view(sheet, (12, 16, 3))[:, :, 0]
    for pixels in images:
        large = pixels.repeat(2, 0).repeat(2, 1)
        assert (windows == large).all(axis=(2, 3, 4)).sum() == 1


@pytest.fixture
def shown(monkeypatch):
    """What a notebook would display."""
    found = []
    monkeypatch.setattr(plots, "display", found.append)
    return found


def test_a_table_is_markdown(shown):
    plots.table(["variant", "×2"], [["full", "30.00 dB"]])
    plots.table(["variant", "×2"], [["full", "30.00 dB"]], fold="more")
    assert isinstance(shown[0], Markdown)
    assert shown[0].data == "| variant | ×2 |\n| --- | --- |\n| full | 30.00 dB |"
    assert shown[0].data in shown[1].data and "<details>" in shown[1].data


def test_an_image_or_a_figure_is_shown_with_its_text(shown):
    plots.show(Image.new("RGB", (3, 2), "red"), "a red rectangle")
    figure, panels = plots.axes(2)
    plots.show(figure, "two plots")
    assert [found.alt for found in shown] == ["a red rectangle", "two plots"]
    html = [found._repr_mimebundle_()["text/html"] for found in shown]
    assert html[0].startswith("<img ") and 'alt="a red rectangle"' in html[0]
    pngs = [io.BytesIO(b64decode(found.url.partition(",")[2])) for found in shown]
    assert Image.open(pngs[0]).size == (3, 2)
    assert len(panels) == 2 and Image.open(pngs[1]).width > 300
