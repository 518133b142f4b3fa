"""The explorer driven from Python: what it shows, and what it says when that fails."""

import asyncio
import gc
import io

import ipywidgets as ipw
import numpy as np
import pytest
import torch
from helpers import awake, picture, tiny
from PIL import Image

from asr_course import build, view
from asr_course.coords import output_size
from asr_course.images import resize, sample_crops, to_pixels, to_tensor
from asr_course.picture import LatestWins
from asr_course.render import Totals, decode_rows, encode, render
from asr_course.view import crop_resized
from asr_course.widgets import VIEW, ScaleExplorer


@pytest.fixture
def explorer(liif):
    return ScaleExplorer({"LIIF": liif}, sample_crops()["coffee"])


@pytest.fixture
def told(explorer, monkeypatch):
    """What an explorer says about its progress and about errors."""
    words = []
    monkeypatch.setattr(type(explorer), "send", lambda self, x: words.append(x["text"]))
    return words


def upload(explorer, content: bytes, piece: int = 10**6) -> None:
    """What the browser sends for one chosen file, in pieces if it is large."""
    for at in range(0, len(content) or 1, piece):
        message = {"type": "photo", "name": "a.png", "at": at, "size": len(content)}
        explorer._on_photo(explorer, message, [content[at : at + piece]])


def smaller(explorer, side: int) -> ScaleExplorer:
    """An explorer that shows windows of `side` rows and columns."""
    explorer.look(side=side)
    return explorer


@torch.inference_mode()
def crop_of_all(explorer, view, name: str) -> np.ndarray:
    """What the package renders there, as a part of the whole output."""
    full = to_pixels(render(explorer.models[name], to_tensor(explorer.lr), view.size))
    top, left, rows, cols = view.window
    return full[top : top + rows, left : left + cols]


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference, in grey levels."""
    return np.abs(a.astype(int) - b).max()


def moved(explorer, *scales) -> None:
    """Move the slider in a loop, as in a notebook, and wait for the picture."""

    async def move():
        for scale in scales:
            explorer.look(scale=scale)
        await explorer._task

    asyncio.run(move())


@pytest.mark.parametrize("scale", [1, 2.5, 7.3, 30])
def test_a_move_shows_a_crop_of_the_full_render(explorer, scale):
    """The same number of queries at every scale that has so many."""
    explorer.look(scale=scale)
    view, answer = explorer.view, explorer.answer
    side = min(VIEW, *output_size((64, 64), scale))
    assert explorer.error is None and answer["request"] == explorer.asked
    assert all(p.shape == (side, side, 3) for p in view.panels.values())
    for panel, pixels in zip(answer["panels"], view.panels.values(), strict=True):
        image = panel["image"]
        flat = np.frombuffer(image["data"], np.uint8)
        assert np.array_equal(flat.reshape(image["rows"], image["cols"], 3), pixels)
    assert f"{side * side:,} pixels" in answer["text"]
    assert f"{view.size[0]}×{view.size[1]}" in answer["text"]
    if scale < 10:
        crop = crop_of_all(explorer, view, "LIIF")
        assert levels_apart(crop, view.panels["LIIF"]) <= 1


def test_psnr_is_shown_only_where_there_is_a_truth(explorer):
    explorer.look(scale=3)
    assert set(explorer.view.psnr) == {"bicubic", "LIIF"}
    assert list(explorer.view.panels)[2] == "truth"
    assert explorer.answer["panels"][1]["score"].endswith(" dB")
    explorer.look(scale=1)
    assert explorer.answer["panels"][0]["score"] == "∞ dB"
    explorer.look(scale=8)
    assert explorer.view.psnr == {} and explorer.answer["panels"][1]["score"] == ""
    assert list(explorer.view.panels)[2] == "photograph, bicubic ×2"
    photo = sample_crops(64)["coffee"]
    alone = ScaleExplorer(explorer.models, photo, downsample=1)
    assert list(alone.view.panels) == ["bicubic", "LIIF"]
    assert alone.lr.shape == (64, 64, 3) and not alone.photo["choice"]


def test_two_models_stand_beside_one_another(liif):
    other = tiny(local_ensemble=False)
    explorer = ScaleExplorer({"A": liif, "B": other}, picture(48, 48), scale=3)
    explorer.look(left="B", right="A")
    view = explorer.view
    assert list(view.panels) == list(view.psnr) + ["truth"] == ["B", "A", "truth"]
    for name in "AB":
        crop = crop_of_all(explorer, view, name)
        assert levels_apart(view.panels[name], crop) <= 1


def test_the_window_stays_inside_the_output(explorer):
    for centre in ([0, 1], [-3, 7], [0.5, 0.2]):
        explorer.look(scale=12, centre=centre)
        (top, left, rows, cols), (h, w) = explorer.view.window, explorer.view.size
        assert 0 <= top <= h - rows and 0 <= left <= w - cols
    assert (top + rows / 2, left + cols / 2) == (h / 2, round(w * 0.2))


def test_a_large_input_is_encoded_in_parts_that_change_nothing(liif):
    explorer = ScaleExplorer(liif, picture(300, 420), downsample=1, scale=2)
    explorer.look(side=64, centre=[0.9, 0.4])
    view = explorer.view
    ((_, part),) = list(explorer.decoder._encoded)[1:]
    assert part[2] < 300 and part[3] < 420
    assert levels_apart(view.panels["model"], crop_of_all(explorer, view, "model")) <= 1


def test_an_input_of_one_s_own_is_used(liif):
    """It may have noise on it, which shrinking the truth does not give."""
    lr = picture(8, 8, seed=5)
    explorer = ScaleExplorer(liif, picture(32, 32), scale=3, lr=lr)
    view = explorer.view
    assert np.array_equal(explorer.lr, lr)
    assert levels_apart(view.panels["model"], crop_of_all(explorer, view, "model")) <= 1
    assert levels_apart(view.panels["bicubic"], resize(lr, view.size)) <= 1
    assert not explorer.about["upload"]
    explorer.set_image(picture(32, 32, seed=2))  # another photograph is shrunk again
    assert np.array_equal(explorer.lr, resize(picture(32, 32, seed=2), (8, 8)))


@pytest.mark.parametrize("scale", [1.3, 4, 17.9])
def test_crop_resized_is_a_crop_of_the_resized_picture(scale):
    pixels = resize(sample_crops()["coffee"], (96, 128))
    size = output_size((96, 128), scale)
    full = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC)
    top, left, rows, cols = window = (size[0] // 3, size[1] // 5, 40, 50)
    crop = np.asarray(full)[top : top + rows, left : left + cols]
    assert levels_apart(crop, crop_resized(pixels, size, window)) <= 1


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\nxxx"])
def test_a_file_that_is_no_picture_is_refused_by_name(explorer, told, content):
    before = explorer.answer
    upload(explorer, content)
    assert "Not drawn: a.png" in told[-1] and explorer.error is not None
    assert explorer.answer is before


def test_a_photo_is_enlarged_as_it_is_or_shrunk_first(explorer):
    photo = io.BytesIO()
    Image.new("L", (90, 70), 128).save(photo, "PNG")
    upload(explorer, photo.getvalue(), piece=50)
    assert explorer.error is None and explorer.lr.shape == (70, 90, 3)
    assert explorer.view.psnr == {} and explorer.photo["choice"]
    explorer.look(shrink=True)
    assert explorer.lr.shape == (17, 22, 3) and explorer.photo["rows"] == 17
    assert explorer.view.psnr


def test_a_tiny_photo_is_refused(liif):
    with pytest.raises(ValueError, match="larger picture"):
        ScaleExplorer(liif, np.zeros((3, 9, 3), np.uint8))


# Queries that hear from each other: of the window, or of the whole output

SMALL = 24  # output rows and columns that are shown here


def hearing(**more) -> ScaleExplorer:
    """A small window of a HIIF for which it matters what queries hear, and others."""
    model = awake(build("hiif", "tiny"))
    for block in model.attention:
        block.mix1.weight.data *= 6
        block.mix2.weight.data *= 6
    explorer = ScaleExplorer({"HIIF": model, **more}, picture(48, 40), centre=(0.2, 1))
    return smaller(explorer, SMALL)


@torch.inference_mode()
@pytest.mark.parametrize("scale", [3.7, 6])
def test_the_whole_output_is_heard_where_it_is_asked_for(scale):
    explorer = hearing()
    alone, whole = (
        explorer.render(scale, view=SMALL, whole=choice) for choice in (False, True)
    )
    assert alone.window == whole.window and min(whole.size) > SMALL
    crop = crop_of_all(explorer, whole, "HIIF")
    assert levels_apart(whole.panels["HIIF"], crop) <= 1
    model, size, window = explorer.models["HIIF"], alone.size, alone.window
    encoded = encode(model, to_tensor(explorer.lr))
    totals = Totals(model, lambda: [(encoded, window)], size, every=view.EVERY)
    rows = [done for done in decode_rows(model, encoded, size, window, totals) if done]
    few = np.concatenate([to_pixels(piece) for _, piece in rows])
    assert levels_apart(alone.panels["HIIF"], few) <= 1
    assert levels_apart(alone.panels["HIIF"], whole.panels["HIIF"]) > 8


def test_the_box_is_obeyed_and_the_text_says_which_it_is():
    explorer = hearing()
    explorer.look(scale=4)
    for whole, words in ((True, "hears all 1,920."), (False, "9 of the window.")):
        explorer.look(whole=whole)
        assert explorer.error is None and explorer.answer["text"].endswith(words)
        wanted = explorer.render(view=SMALL, whole=whole).panels["HIIF"]
        assert np.array_equal(explorer.view.panels["HIIF"], wanted)


def test_sums_over_the_whole_output_are_kept_for_the_latest_size():
    """A drag needs no new ones; another size, model or picture does."""
    explorer = hearing()
    explorer.look(scale=4, whole=True)
    kept = explorer.decoder._totals["HIIF", (48, 40)]
    assert len(kept.known) == 2
    explorer.look(centre=[0.9, 0.1])
    view, totals = explorer.view, explorer.decoder._totals
    assert totals["HIIF", (48, 40)] is kept
    assert levels_apart(view.panels["HIIF"], crop_of_all(explorer, view, "HIIF")) <= 1
    explorer.look(scale=5)
    assert [key for key in totals if len(key) == 2] == [("HIIF", (60, 50))]
    explorer.set_image(picture(48, 40, seed=1))
    view = explorer.render(5, whole=True)
    assert levels_apart(view.panels["HIIF"], crop_of_all(explorer, view, "HIIF")) <= 1


def test_the_page_knows_which_controls_a_model_needs(explorer):
    assert explorer.about["nonlocal"] == explorer.about["generative"] == []
    both = hearing(LIIF=tiny())
    assert both.about["nonlocal"] == ["HIIF"] and both.about["names"][1] == "LIIF"
    both.look(right="LIIF")
    before = both.view.panels["LIIF"]
    both.look(whole=True)
    assert both.error is None and "hears" not in both.answer["text"]
    assert np.array_equal(both.view.panels["LIIF"], before)
    assert sampling().about["generative"] == ["IDM"]


def sampling() -> ScaleExplorer:
    """An explorer of an IDM that shows 8 x 8 as 24 x 24 pixels."""
    model = awake(build("idm", "tiny"))
    return ScaleExplorer({"IDM": model}, picture(32, 32), scale=3)


def sample_of(explorer, size, seed=0) -> np.ndarray:
    model, lr = explorer.models["IDM"], to_tensor(explorer.lr)
    return to_pixels(model.sample(lr, size, 25, seed)[0])


def test_a_sampled_panel_is_a_crop_of_the_sample_and_follows_the_seed():
    explorer = sampling()
    first = explorer.view.panels["IDM"]
    assert np.array_equal(first, sample_of(explorer, (24, 24)))
    explorer.look(seed=7)
    assert explorer.error is None and "seed 7" in explorer.answer["text"]
    assert np.array_equal(explorer.view.panels["IDM"], sample_of(explorer, (24, 24), 7))
    view = explorer.render(5, view=20)  # a window of 40 x 40
    top, left, rows, cols = view.window
    whole = sample_of(explorer, (40, 40), 7)[top : top + rows, left : left + cols]
    assert np.array_equal(view.panels["IDM"], whole)


# Of many requests the latest is drawn, and a slow one first from a few queries


class Chores(LatestWins, ipw.VBox):
    """Works in five pieces on the word that was asked for."""

    def __init__(self):
        super().__init__()
        self.word, self.status = "", ipw.HTML("idle")
        self.done, self.shown, self.said = [], [], []

    def tell(self, words, wrong=False):
        self.said.append(words)

    def steps(self, watched):
        word = self.word
        if not word:
            raise ValueError("nothing <was> asked")
        for k in range(5):
            self.done.append(word)
            yield f"{word} {k}" if k % 2 else None
        return word.upper()

    def _show(self, view):
        self.shown.append(view)

    def ask(self, word):
        self.word = word
        self.request()


def test_without_a_loop_work_is_done_at_once_and_in_silence():
    chores = Chores()
    chores.ask("a")
    chores.ask("b")
    assert chores.shown == ["A", "B"] and chores.said == []


def test_in_a_loop_older_work_ends():
    chores = Chores()

    async def work():
        chores.ask("never")
        chores.ask("begun")
        while "begun 1" not in chores.said:
            await asyncio.sleep(0)
        older = chores._task
        chores.ask("last")
        await asyncio.gather(older, chores._task)

    asyncio.run(work())
    assert chores.shown == ["LAST"] and chores.said == ["begun 1", "last 1", "last 3"]
    assert chores.done.count("last") == 5 and "never" not in chores.done


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_what_goes_wrong_is_said(in_a_loop):
    chores = Chores()

    async def work():
        chores.ask("")
        await chores._task

    asyncio.run(work()) if in_a_loop else chores.ask("")
    assert isinstance(chores.error, ValueError) and chores.shown == []
    assert chores.said == ["Not drawn: nothing <was> asked"]


@pytest.fixture
def shown(explorer):
    """All views that an explorer shows, and whether it is busy."""
    views, keep = [], explorer._show

    def watched(view):
        keep(view)
        views.append((view, explorer.answer["coarse"]))

    explorer._show = watched
    return views


def test_a_slow_picture_is_preceded_by_a_coarse_one(explorer, shown):
    explorer.decoder._pace["LIIF"] = 1.0  # seconds for every query
    moved(explorer, 2, 3, 7)
    (coarse, busy), (fine, still_busy) = shown
    assert coarse.seconds is None and busy
    assert fine.seconds is not None and not still_busy
    assert coarse.window == fine.window and coarse.size == fine.size == (448, 448)
    wanted = explorer.render(7).panels["LIIF"].astype(int)
    assert np.array_equal(fine.panels["LIIF"], wanted)
    off = np.abs(coarse.panels["LIIF"] - wanted).mean()
    for axis, step in ((0, -2), (0, 2), (1, -2), (1, 2)):  # it is not moved
        assert off < np.abs(np.roll(wanted, step, axis) - wanted).mean() + 6
    assert off < 12 and explorer.error is None


def test_a_quick_picture_comes_at_once(explorer, shown):
    explorer.decoder._pace["LIIF"] = 0.0
    moved(explorer, 2, 3, 7)
    assert [(view.size[0], busy) for view, busy in shown] == [(448, False)]


def test_what_goes_wrong_is_told_to_the_page(explorer, told, monkeypatch):
    def fail(asked, watched):
        yield 1 / 0

    monkeypatch.setattr(explorer.decoder, "work", fail)
    moved(explorer, 6)
    assert isinstance(explorer.error, ZeroDivisionError) and "Not drawn" in told[-1]


def test_a_sheet_is_shown_for_readers_without_a_kernel(explorer, monkeypatch):
    shown = []
    for place in ("plots", "widgets"):
        monkeypatch.setattr(f"asr_course.{place}.display", shown.append)
    explorer.show((1.5, 10))
    assert shown[0] is explorer and "bicubic, LIIF, photograph" in shown[1].alt


def test_a_thousand_moves_need_no_more_memory(explorer):
    """Small windows, so that it does not take long."""
    explorer, counts = smaller(explorer, 16), []
    for moves in (100, 1000):
        for k in range(moves):
            explorer.look(scale=2 + k % 100 / 10)
        gc.collect()
        counts.append(len(gc.get_objects()))
    assert explorer.error is None and counts[1] - counts[0] < 200
