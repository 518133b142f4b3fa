"""Widgets driven from Python: what they show, and what they say when it goes wrong."""

import asyncio
import datetime
import gc
import io

import ipywidgets as ipw
import numpy as np
import psutil
import pytest
import torch
from helpers import awake, picture, tiny
from PIL import Image

from asr_course import build, widgets
from asr_course.coords import output_size
from asr_course.images import resize, sample_crops, to_pixels, to_tensor
from asr_course.render import decode_rows, encode, finish, gather, render
from asr_course.widgets import VIEW, LatestWins, ScaleExplorer, crop_resized


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
    for _ in range(12):
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


def test_it_says_whom_queries_hear(explorer):
    assert "hears" not in explorer.status.value
    attentive = ScaleExplorer({"HIIF": build("hiif", "tiny")}, sample_crops()["rocket"])
    assert attentive.error is None
    assert "each hears 1,024 of the window" in attentive.status.value


# Queries that hear from each other: of the window, or of the whole output

SMALL = 24  # output rows and columns that are shown here


def listener():
    """A HIIF for which it matters what queries hear."""
    model = awake(build("hiif", "tiny"))
    for block in model.attention:
        block.mix1.weight.data *= 6
        block.mix2.weight.data *= 6
    return model


def hearing(**models) -> ScaleExplorer:
    """An explorer of such a model, and others, that shows a small window."""
    models = {"HIIF": listener(), **models}
    explorer = ScaleExplorer(models, picture(48, 40), centre=(0.2, 1))
    explorer.window = lambda scale, view=SMALL: ScaleExplorer.window(
        explorer, scale, min(view, SMALL)
    )
    return explorer


@pytest.fixture
def gathered(monkeypatch):
    """The size of every output that was gone over for its sums."""
    found, gathering = [], widgets.gathering

    def watched(model, pieces, size, every=1):
        if every == 1:
            found.append(size)
        return gathering(model, pieces, size, every)

    monkeypatch.setattr(widgets, "gathering", watched)
    return found


@torch.inference_mode()
def crop_of_all(explorer, view) -> np.ndarray:
    """What the package renders there, as a part of the whole output."""
    full = to_pixels(render(explorer.models["HIIF"], to_tensor(explorer.lr), view.size))
    top, left, rows, cols = view.window
    return full[top : top + rows, left : left + cols]


def levels_apart(a: np.ndarray, b: np.ndarray) -> int:
    """The largest difference, in grey levels."""
    return np.abs(a.astype(int) - b).max()


@torch.inference_mode()
@pytest.mark.parametrize("scale", [3.7, 6])
def test_the_whole_output_is_heard_where_it_is_asked_for(scale):
    explorer = hearing()
    alone, all = (explorer.render(scale, whole=whole) for whole in (False, True))
    assert alone.window == all.window and min(all.size) > SMALL
    crop = crop_of_all(explorer, all)
    assert levels_apart(all.panels["HIIF"], crop) <= 1
    model = explorer.models["HIIF"]
    encoded = encode(model, to_tensor(explorer.lr))
    heard = gather(model, lambda: [(encoded, alone.window)], alone.size, widgets.EVERY)
    pieces = decode_rows(model, encoded, alone.size, alone.window, heard)
    window = np.concatenate([to_pixels(piece) for _, piece in pieces])
    assert levels_apart(alone.panels["HIIF"], window) <= 1
    assert levels_apart(alone.panels["HIIF"], all.panels["HIIF"]) > 8
    assert ((crop > 0) & (crop < 255)).mean() > 0.5


def test_the_box_is_obeyed_and_the_text_says_which_it_is():
    explorer = hearing()
    explorer.slider.value = 4
    for whole, words in (
        (True, "; each hears all 1,920 of the output"),  # 48 x 40
        (False, "; each hears 9 of the window"),  # every eighth of 24 rows and columns
    ):
        explorer.whole.value = whole
        assert explorer.error is None
        assert explorer.status.value.endswith(words)
        shown, wanted = explorer.view, explorer.render(whole=whole)
        other = explorer.render(whole=not whole)
        assert np.array_equal(shown.panels["HIIF"], wanted.panels["HIIF"])
        assert not np.array_equal(shown.panels["HIIF"], other.panels["HIIF"])


def test_sums_are_kept_for_the_latest_size(gathered):
    """A drag needs no new ones, and shows another part of the same picture."""
    explorer = hearing()
    whole = explorer.render(4, whole=True)
    explorer.centre = (0.9, 0.1)
    moved = explorer.render(4, whole=True)
    assert moved.window != whole.window
    assert gathered == [(48, 40)]
    explorer.render(5)  # the window alone
    assert gathered == [(48, 40)]
    explorer.render(5, whole=True)
    explorer.render(4, whole=True)
    assert gathered == [(48, 40), (60, 50), (48, 40)]
    assert levels_apart(moved.panels["HIIF"], crop_of_all(explorer, moved)) <= 1


def test_sums_are_those_of_one_model(gathered):
    explorer = hearing(other=listener())
    found = [explorer.render(4, name, whole=True) for name in ("HIIF", "other")]
    assert len(gathered) == 2
    assert not np.array_equal(found[0].panels["HIIF"], found[1].panels["other"])


def test_a_new_picture_forgets_the_sums(gathered):
    explorer = hearing()
    explorer.render(4, whole=True)
    explorer.set_image(picture(48, 40, seed=1))
    view = explorer.render(4, whole=True)
    assert gathered == [(48, 40)] * 2
    assert levels_apart(view.panels["HIIF"], crop_of_all(explorer, view)) <= 1


def test_half_gathered_sums_are_not_kept(monkeypatch, gathered):
    """What a newer request interrupts is begun anew."""
    monkeypatch.setattr("asr_course.render.QUERIES", 400)
    explorer = hearing()
    steps = explorer.work(4, "HIIF", whole=True)
    for _ in range(8):  # into the second pass
        next(steps)
    steps.close()
    view, again = (explorer.render(4, whole=True) for _ in range(2))
    assert len(gathered) == 2
    assert np.array_equal(view.panels["HIIF"], again.panels["HIIF"])


def test_of_many_moves_over_the_whole_output_only_the_latest_is_drawn(gathered):
    explorer = hearing()

    async def move():
        explorer.whole.value = True
        for scale in (2, 3, 5):
            explorer.slider.value = scale
        await explorer._task

    asyncio.run(move())
    assert explorer.error is None
    assert gathered == [(60, 50)] and explorer.view.size == (60, 50)
    assert "each hears all 3,000 of the output" in explorer.status.value


def test_models_whose_queries_are_alone_do_not_mind(gathered, explorer):
    """No box for them alone, and beside others the same pixels with it and without."""
    assert explorer.whole not in explorer.children
    both = hearing(LIIF=tiny())
    assert both.whole in both.children
    both.tabs.value = "LIIF"
    before = both.view.panels["LIIF"]
    both.whole.value = True
    assert both.error is None
    assert np.array_equal(both.view.panels["LIIF"], before)
    assert "hear" not in both.status.value


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
    explorer._pace["LIIF"] = 0.0  # no coarse picture first, however slow this machine

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


# Of many requests the latest wins


class Chores(LatestWins):
    """Works in five pieces on the word that was asked for."""

    def __init__(self):
        super().__init__()
        self.word, self.status = "", ipw.HTML("idle")
        self.done, self.shown, self.said = [], [], []
        self.status.observe(lambda change: self.said.append(change["new"]), "value")

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
    for word in ("a", "b"):
        chores.ask(word)
    assert chores.shown == ["A", "B"]
    assert chores.said == []


def test_in_a_loop_work_that_is_not_wanted_any_more_ends():
    chores = Chores()

    async def work():
        chores.ask("never")
        chores.ask("begun")
        while "begun 1" not in chores.said:
            await asyncio.sleep(0)
        older = chores._task
        chores.ask("last")
        await older
        await chores._task

    asyncio.run(work())
    assert chores.shown == ["LAST"]
    assert chores.done.count("last") == 5 and "never" not in chores.done
    assert 2 <= chores.done.count("begun") <= 3
    assert chores.said == ["begun 1", "last 1", "last 3"]


def test_now_means_now_even_in_a_loop():
    chores = Chores()

    async def work():
        chores.word = "a"
        chores.request(now=True)
        assert chores.shown == ["A"]

    asyncio.run(work())


@pytest.mark.parametrize("in_a_loop", [False, True])
def test_what_goes_wrong_is_said(in_a_loop):
    chores = Chores()

    async def work():
        chores.ask("")
        await chores._task

    asyncio.run(work()) if in_a_loop else chores.ask("")
    assert isinstance(chores.error, ValueError)
    assert "Not drawn: nothing &lt;was&gt; asked" in chores.status.value
    assert chores.shown == []


# Models that draw their answer


def drawing(**models) -> ScaleExplorer:
    """An explorer of an IDM that shows 8 x 8 as 24 x 24 pixels, and perhaps others."""
    models = {"IDM": awake(build("idm", "tiny")), **models}
    made = ScaleExplorer(models, picture(32, 32), scale=3)
    made.calls = []
    models["IDM"].unet.register_forward_hook(lambda *_: made.calls.append(1))
    return made


def sample_of(explorer, size, seed=0) -> np.ndarray:
    found = explorer.models["IDM"].sample(to_tensor(explorer.lr), size, 25, seed)
    return to_pixels(found[0])


def test_a_drawn_panel_is_a_crop_of_the_sample():
    explorer = drawing()
    assert explorer.error is None
    assert np.array_equal(explorer.view.panels["IDM"], sample_of(explorer, (24, 24)))
    assert "25 steps of sampling, seed 0" in explorer.status.value
    view = explorer.render(5, view=20)  # a window of 40 x 40
    top, left, rows, cols = view.window
    assert (rows, cols) == (20, 20)
    whole = sample_of(explorer, (40, 40))
    assert np.array_equal(
        view.panels["IDM"], whole[top : top + rows, left : left + cols]
    )


def test_another_seed_draws_another_picture():
    explorer = drawing()
    before = explorer.view.panels["IDM"]
    explorer.seed.value = 7
    assert explorer.error is None and "seed 7" in explorer.status.value
    assert np.array_equal(explorer.view.panels["IDM"], sample_of(explorer, (24, 24), 7))
    assert not np.array_equal(explorer.view.panels["IDM"], before)
    explorer.seed.value = 0
    assert np.array_equal(explorer.view.panels["IDM"], before)


def test_a_seed_stands_there_only_where_a_model_draws(explorer):
    assert explorer.seed not in explorer.children
    assert "seed" not in explorer.status.value
    both = drawing(LIIF=tiny())
    assert both.seed in both.children
    both.tabs.value = "LIIF"
    assert both.error is None and "sampling" not in both.status.value


def test_how_far_the_sampler_is_and_a_newer_move_ends_the_older():
    explorer, said = drawing(), []
    explorer.status.observe(lambda change: said.append(change["new"]), "value")

    async def move():
        explorer.slider.value = 2
        while "sampling … 5/25" not in said:
            await asyncio.sleep(0)
        explorer.slider.value = 4
        await explorer._task

    asyncio.run(move())
    assert explorer.error is None
    side = explorer.view.size[0]
    assert side == 32 and "32×32" in explorer.status.value
    assert [s for s in said if "sampling …" in s][-1] == "sampling … 25/25"
    assert 30 <= len(explorer.calls) <= 31  # not twice 25
    assert np.array_equal(
        explorer.view.panels["IDM"], sample_of(explorer, (side, side))
    )


def test_a_drawn_output_that_is_too_large_is_said(monkeypatch):
    monkeypatch.setattr("asr_course.models.idm.LARGEST", 1000)
    explorer = drawing()
    before = explorer.picture.data
    explorer.slider.value = 6
    assert "1000 pixels at most" in explorer.status.value
    assert explorer.picture.data == before
    explorer.slider.value = 3
    assert explorer.error is None


def test_an_input_of_one_s_own_is_used(liif):
    """It may have noise on it, which shrinking the truth does not give."""
    lr = picture(8, 8, seed=5)
    explorer = ScaleExplorer(liif, picture(32, 32), scale=3, lr=lr)
    assert np.array_equal(explorer.lr, lr)
    with torch.inference_mode():
        full = to_pixels(render(liif, to_tensor(lr), explorer.view.size))
    assert levels_apart(explorer.view.panels["model"], full) <= 1
    bicubic = resize(lr, explorer.view.size)
    assert levels_apart(explorer.view.panels["bicubic"], bicubic) <= 1
    assert not np.array_equal(ScaleExplorer(liif, picture(32, 32)).lr, lr)
    explorer.set_image(picture(32, 32, seed=2))  # another photograph is shrunk again
    assert np.array_equal(explorer.lr, resize(picture(32, 32, seed=2), (8, 8)))


# A coarse picture first


@pytest.fixture
def shown(explorer):
    """All views that an explorer shows, with what it says and whether it is busy."""
    found, keep = [], explorer._show

    def watched(view):
        keep(view)
        found.append((view, explorer.status.value, explorer.picture.busy))

    explorer._show = watched
    return found


def moved(explorer, *scales) -> None:
    """Move the slider in a loop, as in a notebook, and wait for the picture."""

    async def move():
        for scale in scales:
            explorer.slider.value = scale
        await explorer._task

    asyncio.run(move())


def test_a_slow_picture_is_preceded_by_a_coarse_one(explorer, shown):
    explorer._pace["LIIF"] = 1.0  # seconds for every query
    moved(explorer, 7)
    (coarse, says, busy), (whole, says_at_last, still_busy) = shown
    assert (coarse.coarse, whole.coarse) == (True, False)
    assert "coarse so far, busy with the rest" in says and busy
    assert f"{VIEW * VIEW:,} queries in " in says_at_last and not still_busy
    assert coarse.window == whole.window and coarse.psnr == {}
    assert np.array_equal(whole.panels["LIIF"], explorer.render(7).panels["LIIF"])
    assert explorer.slider.value == 7 and explorer.error is None


def test_a_quick_picture_comes_at_once(explorer, shown):
    explorer._pace["LIIF"] = 0.9 * widgets.SOON / VIEW**2
    moved(explorer, 7)
    assert [view.coarse for view, _, _ in shown] == [False]
    explorer._pace["LIIF"] = 1.1 * widgets.SOON / VIEW**2
    moved(explorer, 5)
    assert [view.coarse for view, _, _ in shown] == [False, True, False]


def test_the_first_picture_of_a_model_counts_as_slow(liif):
    """Nobody knows yet; afterwards the time that it took decides."""
    explorer = ScaleExplorer({"a": liif, "b": liif}, sample_crops()["coffee"])
    assert explorer.slow("b", (0, 0, VIEW, VIEW)) and "a" in explorer._pace
    explorer.tabs.value = "b"
    assert explorer._pace["b"] == explorer.view.seconds / VIEW**2


@pytest.mark.parametrize("scale", [3, 7.3, 20])
def test_the_coarse_picture_looks_like_the_fine_one(explorer, scale):
    """It is the fine one seen through fewer queries, and not moved against it."""
    steps = explorer.work(scale, "LIIF", sketched=True)
    explorer._pace["LIIF"] = 1.0
    coarse = next(said for said in steps if said is not None).panels["LIIF"].astype(int)
    fine = explorer.render(scale).panels["LIIF"].astype(int)
    off = np.abs(coarse - fine).mean()
    for axis in (0, 1):
        for step in (-2, 2):
            assert off < np.abs(np.roll(coarse, step, axis) - fine).mean()
    assert off < 12 and coarse.shape == fine.shape


def test_a_coarse_picture_takes_a_sixteenth_of_the_queries(explorer, monkeypatch):
    asked, original = [], widgets.decode_rows

    def watched(*args):
        for first, piece in original(*args):
            asked.append(piece[0].numel())
            yield first, piece

    monkeypatch.setattr(widgets, "decode_rows", watched)
    finish(explorer.sketch("LIIF", (640, 640), (100, 90, VIEW, VIEW)))
    assert sum(asked) == VIEW * VIEW // 16


def test_without_a_loop_no_coarse_picture_is_made(explorer, shown, monkeypatch):
    """Nobody would see it."""
    monkeypatch.setattr(explorer, "sketch", None)
    explorer._pace["LIIF"] = 1.0
    explorer.slider.value = 9
    assert explorer.error is None
    assert [view.coarse for view, _, _ in shown] == [False]


def test_a_newer_move_ends_the_fine_picture_of_an_older_one(explorer, shown):
    explorer._pace["LIIF"] = 1.0

    async def move():
        explorer.slider.value = 7
        while not shown:
            await asyncio.sleep(0)
        older = explorer._task
        explorer.slider.value = 9
        await older
        await explorer._task

    asyncio.run(move())
    sizes = [(view.size[0], view.coarse) for view, _, _ in shown]
    assert sizes == [(448, True), (576, True), (576, False)]
    assert not explorer.picture.busy


def test_it_is_busy_no_longer_when_something_goes_wrong(explorer, monkeypatch):
    def paint(*_):
        raise RuntimeError("the disk <is> full")
        yield

    explorer._pace["LIIF"] = 1.0
    before = explorer.picture.data
    monkeypatch.setattr(explorer, "paint", paint)
    moved(explorer, 6)
    assert isinstance(explorer.error, RuntimeError) and not explorer.picture.busy
    assert "Not drawn: the disk &lt;is&gt; full" in explorer.status.value
    assert explorer.picture.data != before  # the coarse picture stays


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x89PNG\r\n\x1a\n" + b"x" * 99])
def test_uploads_that_are_no_pictures_are_answered_in_words(explorer, content):
    explorer.upload.value = uploaded(content)
    assert isinstance(explorer.error, Exception)
    assert "Not drawn: " in explorer.status.value
    assert "shrunk" not in explorer.status.value


# For a whole evening


def test_a_thousand_moves_need_no_more_memory(explorer):
    """Small windows, so that it does not take long; nothing else is kept of a move."""
    explorer.window = lambda scale, view=16: ScaleExplorer.window(explorer, scale, 16)
    process = psutil.Process()

    def held() -> tuple[int, int]:
        gc.collect()
        return len(gc.get_objects()), process.memory_info().rss

    for k in range(100):
        explorer.slider.value = 2 + k / 10
    objects, before = held()
    for k in range(1000):
        explorer.slider.value = 2 + k % 100 / 10
    more, after = held()
    assert explorer.error is None
    assert more - objects < 200
    assert after - before < 50e6


def test_tasks_of_many_moves_do_not_pile_up(explorer):
    explorer.window = lambda scale, view=16: ScaleExplorer.window(explorer, scale, 16)

    async def move() -> int:
        for k in range(300):
            explorer.slider.value = 2 + k % 50 / 10
            await asyncio.sleep(0)
        await explorer._task
        await asyncio.sleep(0.05)
        return len(asyncio.all_tasks())

    assert asyncio.run(move()) == 1  # this one


def test_two_explorers_on_one_page_do_not_meet(liif):
    """Each ends with what it was asked for, though both work in turns."""
    photos = sample_crops()
    one = ScaleExplorer({"LIIF": liif}, photos["coffee"])
    two = ScaleExplorer({"LIIF": liif, "other": tiny()}, photos["rocket"])
    two.tabs.value = "other"
    for explorer in (one, two):
        explorer._pace = dict.fromkeys(("LIIF", "other"), 1.0)

    async def move():
        one.slider.value, two.slider.value = 7, 3
        await asyncio.sleep(0.01)
        one.slider.value = 9
        await asyncio.gather(one._task, two._task)

    asyncio.run(move())
    for explorer, scale, name in ((one, 9, "LIIF"), (two, 3, "other")):
        assert explorer.error is None and not explorer.view.coarse
        shown, wanted = explorer.view, explorer.render(scale)
        assert shown.size == wanted.size
        assert np.array_equal(shown.panels[name], wanted.panels[name])
