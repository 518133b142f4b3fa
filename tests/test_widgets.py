"""Widgets driven from Python: what they show, and what they say when it goes wrong."""

import asyncio
import datetime
import io

import numpy as np
import pytest
import torch
from PIL import Image

from asr_course import build
from asr_course.coords import output_size
from asr_course.images import resize, sample_crops, to_pixels, to_tensor
from asr_course.render import render
from asr_course.widgets import VIEW, ScaleExplorer, crop_resized


@pytest.fixture
def explorer(liif):
    return ScaleExplorer({"LIIF": liif}, sample_crops()["coffee"])


def uploaded(content: bytes) -> tuple[dict]:
    """What the browser sends for one chosen file."""
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    about = {"name": "a.png", "type": "image/png", "last_modified": now}
    return ({**about, "size": len(content), "content": memoryview(content)},)


def test_a_slider_move_changes_picture_and_text(explorer):
    before, text = explorer.picture.data, explorer.status.value
    explorer.slider.value = 7.3
    assert explorer.error is None
    assert explorer.picture.data != before
    assert explorer.status.value != text
    assert "467×467" in explorer.status.value  # 64 × 7.3 = 467.2


@pytest.mark.parametrize("scale", [1, 1.3, 2.5, 4, 11.1, 30])
def test_every_scale_costs_the_same_number_of_queries(explorer, scale):
    explorer.slider.value = scale
    side = min(VIEW, *output_size((64, 64), explorer.slider.value))
    assert explorer.view.queries == side * side
    assert all(p.shape == (side, side, 3) for p in explorer.view.panels.values())


@pytest.mark.parametrize("scale", [2.5, 3, 6])
def test_the_model_s_panel_is_a_crop_of_the_full_render(explorer, liif, scale):
    explorer.slider.value = scale
    view = explorer.view
    top, left, rows, cols = view.window
    with torch.inference_mode():
        full = to_pixels(render(liif, to_tensor(explorer.lr), view.size))
    crop = full[top : top + rows, left : left + cols]
    assert np.abs(crop.astype(int) - view.panels["LIIF"]).max() <= 1  # of 255


def test_psnr_is_shown_only_where_there_is_a_truth(explorer):
    explorer.slider.value = 3
    assert set(explorer.view.psnr) == {"bicubic", "LIIF"}
    assert list(explorer.view.panels)[2] == "truth"
    explorer.slider.value = 8
    assert explorer.view.psnr == {}
    assert "own pixels" in list(explorer.view.panels)[2]


def test_dragging_and_keys_move_the_window_and_stop_at_the_border(explorer):
    explorer.slider.value = 12
    top, left, _, _ = explorer.view.window
    explorer.on_pointer({"type": "drag", "rows": 0, "cols": 0, "start": True})
    explorer.on_pointer({"type": "drag", "rows": 0.25, "cols": 0, "start": False})
    assert explorer.view.window[0] == top - VIEW // 4
    assert explorer.view.window[1] == left
    explorer.on_pointer({"type": "key", "rows": 0, "cols": 1})
    assert explorer.view.window[1] == left + VIEW // 8
    for _ in range(40):
        explorer.on_pointer({"type": "key", "rows": 1, "cols": 1})
    size = explorer.view.size
    assert explorer.view.window[:2] == (size[0] - VIEW, size[1] - VIEW)
    assert explorer.error is None


def test_tabs_switch_between_models(liif):
    other = build("liif", "tiny", local_ensemble=False)
    explorer = ScaleExplorer({"a": liif, "b": other}, sample_crops()["rocket"])
    before = explorer.picture.data
    explorer.tabs.value = "b"
    assert list(explorer.view.panels)[1] == "b"
    assert explorer.picture.data != before


def test_it_says_when_queries_hear_of_each_other(explorer):
    assert "hear of each other" not in explorer.status.value
    attentive = ScaleExplorer({"HIIF": build("hiif", "tiny")}, sample_crops()["rocket"])
    assert attentive.error is None
    assert "hear of each other, but not of those outside" in attentive.status.value


def test_a_photo_of_one_s_own(explorer):
    buffer = io.BytesIO()
    Image.new("L", (90, 70), 128).save(buffer, "PNG")
    explorer.upload.value = uploaded(buffer.getvalue())
    assert explorer.error is None
    assert explorer.lr.shape == (17, 22, 3)


def test_a_file_that_is_no_picture_is_refused_and_the_old_one_stays(explorer):
    before = explorer.picture.data
    explorer.upload.value = uploaded(b"no picture")
    assert "as a picture" in str(explorer.error)
    assert "Not drawn" in explorer.status.value
    assert explorer.picture.data == before
    explorer.slider.value = 2  # and it goes on working
    assert explorer.error is None


def test_a_large_photo_is_shrunk_and_says_so(liif):
    explorer = ScaleExplorer(liif, np.zeros((300, 2048, 3), np.uint8))
    assert explorer.hr.shape == (148, 1024, 3)
    assert "shrunk to 150×1024" in explorer.status.value


def test_without_downsampling_there_is_no_truth(liif):
    explorer = ScaleExplorer(liif, sample_crops(64)["coffee"], downsample=1)
    assert list(explorer.view.panels) == ["bicubic", "model"]
    assert explorer.lr.shape == (64, 64, 3)


def test_a_failing_model_is_shown_not_raised(liif, explorer):
    explorer.models["LIIF"] = None
    explorer._encoded = {}
    explorer.slider.value = 5
    assert explorer.error is not None
    assert "Not drawn" in explorer.status.value


def test_of_many_moves_only_the_latest_is_drawn(explorer):
    drawn = []
    keep = explorer._show
    explorer._show = lambda view: (drawn.append(view.size), keep(view))

    async def move():
        for scale in (2, 3, 5, 8, 13):
            explorer.slider.value = scale
        await explorer._task

    asyncio.run(move())
    assert drawn == [(64 * 13, 64 * 13)]
    assert explorer.error is None


@pytest.mark.parametrize("scale", [1.3, 2, 4, 17.9])
def test_crop_resized_is_a_crop_of_the_resized_picture(scale):
    pixels = resize(sample_crops()["coffee"], (96, 128))
    size = output_size((96, 128), scale)
    full = np.asarray(
        Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)
    )
    window = (size[0] // 3, size[1] // 5, 40, 50)
    top, left, rows, cols = window
    crop = full[top : top + rows, left : left + cols].astype(int)
    assert np.abs(crop - crop_resized(pixels, size, window)).max() <= 1
