"""Tiles, windows and whole pictures: the same numbers whichever way they come.

What holds for every size, window and tile is in test_properties.py.
"""

import math

import pytest
import torch
from helpers import awake, picture, tiny

from asr_course import METHODS, build
from asr_course.coords import make_cell, make_coord
from asr_course.encoders import EDSR, ENCODERS, RDN
from asr_course.errors import UserError
from asr_course.images import to_tensor
from asr_course.models.liif import LIIF, LIIFOptions
from asr_course.profile import TensorMemory
from asr_course.render import (
    WIDE,
    Totals,
    check_window,
    decode_rows,
    encode,
    encoded_tiles,
    render,
    render_pieces,
)

REGRESSION = [name for name, cls in METHODS.items() if not cls.is_generative]
NONLOCAL = [name for name in REGRESSION if METHODS[name].is_nonlocal]


class OnePixelShort(LIIF):
    """A LIIF that claims to see one pixel less than it does."""

    @property
    def radius(self) -> int:
        return super().radius - 1


def double_model(encoder, **options):
    """An untrained model in float64 whose convolutions carry far."""
    model = awake(LIIF(encoder, LIIFOptions(hidden=(16,), **options)))
    for module in model.encoder.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.weight.data *= 2
    return model.double()


def near_sighted(name: str, rows: int = 10, cols: int = 9):
    """A model in float64 with a small radius, and an input for it."""
    model = awake(build(name, "tiny"))
    model.encoder = EDSR(1, model.encoder.channels)
    return model.double(), torch.rand(1, 3, rows, cols, dtype=torch.float64)


@torch.inference_mode()
def whole(model, lr, size):
    """The definition: encode everything, decode everything."""
    coord = make_coord(size)[None].to(lr)
    cell = make_cell(size)[None].to(lr)
    if lr.dtype == torch.float64:  # make_coord rounds to float32
        axes = [(2 * torch.arange(n).double() + 1) / n - 1 for n in size]
        coord = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)[None]
        cell = torch.tensor([[2 / n for n in size]], dtype=torch.float64)
    return model(lr, coord, cell)[0]


def gap(a, b) -> float:
    """The largest difference."""
    assert a.shape == b.shape
    return (a - b).abs().max().item()


# Tiles


SMALL_ENCODERS = {
    "edsr": lambda: EDSR(2, 8),
    "edsr-deeper": lambda: EDSR(4, 8),
    "rdn": lambda: RDN(channels=8, growth=8, blocks=2, layers=2),
}


@pytest.mark.parametrize("unfolding", [True, False])
@pytest.mark.parametrize("encoder", SMALL_ENCODERS)
def test_tiled_encoder_equals_whole_and_its_radius_is_tight(encoder, unfolding):
    """The margin is enough, and one pixel less would not be."""
    lr, size = torch.rand(1, 3, 41, 34, dtype=torch.float64), (71, 85)
    model = double_model(SMALL_ENCODERS[encoder](), feat_unfold=unfolding)
    expected = whole(model, lr, size)
    assert expected.std() > 0.05
    assert gap(render(model, lr, size, tile=9), expected) < 1e-10
    model.__class__ = OnePixelShort
    assert gap(render(model, lr, size, tile=9), expected) > 1e-6


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("size", [(29, 31), (58, 62), (87, 93), (73, 78), (240, 257)])
def test_seams_do_not_show_at_any_scale(size, ensemble):
    """Tiles of three pixels, ties on their borders; also without the ensemble."""
    model = double_model(EDSR(1, 4), local_ensemble=ensemble)
    lr = torch.rand(1, 3, 29, 31, dtype=torch.float64)
    assert gap(render(model, lr, size, tile=3), whole(model, lr, size)) < 1e-10


@pytest.mark.parametrize("shape", [(8, 200), (200, 8)])
def test_a_long_photograph_is_never_encoded_as_a_whole(monkeypatch, liif, shape):
    """A tile and its margin are; each is decoded before the next one is encoded."""
    done, margin = [], liif.radius + 1
    original = {name: getattr(type(liif), name) for name in ("encode", "predict")}

    def encode(self, lr):
        done.append(("encoded", max(lr.shape)))
        return original["encode"](self, lr)

    def predict(self, *queries):
        done.append(("decoded", 0))
        return original["predict"](self, *queries)

    monkeypatch.setattr(type(liif), "encode", encode)
    monkeypatch.setattr(type(liif), "predict", predict)
    lr, size = torch.rand(1, 3, *shape), (2 * shape[0], 2 * shape[1])
    for _ in render_pieces(liif, lr, size, tile=20):
        pass
    widths = [width for what, width in done if what == "encoded"]
    assert len(widths) == 10 and max(widths) == 20 + 2 * margin
    assert [what for what, _ in done] == ["encoded", "decoded"] * 10


@pytest.mark.parametrize("name", REGRESSION)
def test_a_longer_photograph_needs_no_more_memory(name):
    """Besides its own pixels, which are there before, and those that are done."""
    model, peaks = awake(build(name, "tiny")), []
    for cols in (60, 180):
        lr = torch.rand(1, 3, 20, cols)
        with TensorMemory() as memory:
            for _ in render_pieces(model, lr, (40, 2 * cols), tile=20):
                pass
        peaks.append(memory.peak)
    assert peaks[1] < 1.02 * peaks[0]


@pytest.mark.parametrize("queries", [1, 50, 333, 10**9])
def test_chunks_of_queries_equal_whole(queries):
    """Also when a single row is more than a chunk."""
    model, lr = tiny(), torch.rand(1, 3, 12, 15)
    pieces = list(render_pieces(model, lr, (44, 56), queries=queries))
    assert len(pieces) == math.ceil(44 / min(44, max(1, queries // 56)))
    found = render(model, lr, (44, 56), queries=queries)
    assert gap(found, whole(model, lr, (44, 56))) < 1e-6


@pytest.mark.parametrize("width, rows", [(WIDE - 1, 4), (WIDE, 2)])
def test_wide_features_are_decoded_in_smaller_chunks(width, rows):
    model, lr = tiny(hidden=(width,)), torch.rand(1, 3, 5, 5)
    _, _, piece = next(render_pieces(model, lr, (10, 10), queries=40))
    assert piece.shape == (3, rows, 10)


def test_one_row_and_one_column_in_so_many():
    """What a first, coarse picture shows."""
    model, lr, size = tiny(), torch.rand(1, 3, 12, 15), (31, 40)
    totals, encoded = totals_of(model, lr, size)
    coarse = list(decode_rows(model, encoded, size, (2, 3, 20, 31), totals, every=4))
    expected = whole(model, lr, size)[:, 2:22:4, 3:34:4]
    assert gap(torch.cat([rows for _, rows in coarse], dim=1), expected) < 1e-5


# Sums over all queries, for models whose queries hear from each other


def totals_of(model, lr, size, **how):
    """A picture, drawn from one piece, and the sums gathered for it, none so far."""
    pieces = [(encode(model, lr), (0, 0, *size))]
    return Totals(model, lambda: pieces, size, **how), pieces[0][0]


@torch.no_grad()
@pytest.mark.parametrize("name", NONLOCAL)
def test_gathering_gives_way_between_pieces_of_work(name):
    """Four rows of queries at a time, and latent codes all at once."""
    model, lr = near_sighted(name)
    size = (16, 14)
    totals, encoded = totals_of(model, lr, size, queries=4 * 14)
    rows = decode_rows(model, encoded, size, (0, 0, *size), totals)
    done = list(rows)
    work = [1, 1, 4, 4] if name == "diin" else [4, 4]
    assert done[: sum(work)] == [None] * sum(work) and len(totals.known) == len(work)
    colours = torch.cat([part for _, part in done[sum(work) :]], dim=1)
    assert [first for first, _ in done[sum(work) :]] == [0, 4, 8, 12]
    assert gap(colours, whole(model, lr, size)) < 1e-9


@torch.no_grad()
def test_one_piece_is_decoded_once_for_each_sum_and_once_to_draw(monkeypatch):
    """What was tried up to a missing sum is not computed again to gather it."""
    model, lr = near_sighted("hiif")
    calls, decode = [], model.decode
    monkeypatch.setattr(model, "decode", lambda *x: calls.append(1) or decode(*x))
    render(model, lr, (16, 14))
    assert len(calls) == 3


@torch.no_grad()
def test_gathering_can_be_dropped_half_way():
    """A sum is known when all of it is, not before."""
    model, lr = near_sighted("hiif")
    totals, _ = totals_of(model, lr, (16, 14), queries=4 * 14)
    steps = totals.gather()
    for _ in range(3):
        next(steps)
    steps.close()
    assert totals.known == []
    assert len(list(totals.gather())) == 4
    assert totals.known[0].number == 16 * 14


@torch.no_grad()
@pytest.mark.parametrize("name", NONLOCAL)
def test_sums_over_one_query_in_so_many(name):
    model, lr = near_sighted(name)
    totals, encoded = totals_of(model, lr, (16, 14), every=4)
    list(decode_rows(model, encoded, (16, 14), (0, 0, 4, 4), totals))
    products = totals.known[-1] if name == "hiif" else totals.known[-1][0]
    assert products.number == 4 * 4


@torch.no_grad()
@pytest.mark.parametrize("name", NONLOCAL)
def test_a_window_hears_from_the_whole_output(name):
    """By itself it would hear less."""
    model, lr = near_sighted(name, 14, 17)
    size, window = (45, 52), (7, 9, 20, 21)
    crop = whole(model, lr, size)[:, 7:27, 9:30]
    assert gap(render(model, lr, size, window), crop) < 1e-9
    encoded = encode(model, lr)
    alone = Totals(model, lambda: [(encoded, window)], size)
    rows = decode_rows(model, encoded, size, window, alone)
    by_itself = torch.cat([done[1] for done in rows if done], dim=1)
    assert gap(by_itself, crop) > 1e-4


@pytest.mark.parametrize("name, passes", [("hiif", 3), ("diin", 5)])
def test_one_tile_is_encoded_once_and_several_give_the_same(name, passes):
    """Passes over one tile share its features; of several the first is kept, too."""
    model, lr = near_sighted(name)
    calls, size = [], (33, 40)
    model.encoder.register_forward_hook(lambda *_: calls.append(1))
    once = render(model, lr, size)
    assert len(calls) == 1 and once.std() > 0.01
    assert gap(render(model, lr, size, queries=100), once) < 1e-9
    assert len(calls) == 2
    for tile, tiles in ((5, 4), (4, 9)):
        calls.clear()
        assert gap(render(model, lr, size, tile=tile), once) < 1e-9
        assert len(calls) == passes * tiles - 1


def test_a_local_model_gathers_nothing():
    model, lr = tiny(), torch.rand(1, 3, 6, 6)
    totals = Totals(model, lambda: 1 / 0, (9, 9))
    assert None not in decode_rows(
        model, encode(model, lr), (9, 9), (0, 0, 9, 9), totals
    )


def test_only_the_tiles_of_a_window_are_encoded():
    parts = []
    pieces = encoded_tiles(parts.append, (10, 10), (20, 20), (3, 8, 9, 12), tile=5)
    assert [window for _, window in pieces] == [
        (3, 8, 7, 2),
        (3, 10, 7, 10),
        (10, 8, 2, 2),
        (10, 10, 2, 10),
    ]
    assert parts == [(0, 0, 5, 5), (0, 5, 5, 5), (5, 0, 5, 5), (5, 5, 5, 5)]


# Receptive radius


@pytest.mark.parametrize(
    "name, expected",
    [("edsr-baseline", 34), ("rdn", 131), ("edsr-laptop", 18), ("edsr-tiny", 10)],
)
def test_radius_of_the_encoders(name, expected):
    encoder = ENCODERS[name]()
    assert encoder.radius == expected
    assert LIIF(encoder, LIIFOptions(feat_unfold=False)).radius == expected
    assert LIIF(encoder, LIIFOptions(feat_unfold=True)).radius == expected + 1


@pytest.mark.parametrize(
    "make",
    [lambda: EDSR(4, 24), lambda: EDSR(0, 4), lambda: RDN(8, 8, blocks=2, layers=3)],
)
def test_radius_is_what_the_gradient_reaches(make):
    """A latent code depends on the square of that radius, all of it, and no more."""
    encoder = make().double()
    side = 2 * encoder.radius + 7
    middle = side // 2
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    encoder(lr)[0, :, middle, middle].square().sum().backward()
    reached = lr.grad.abs().sum(dim=(0, 1)).nonzero()
    assert (reached.amin(0) == middle - encoder.radius).all()
    assert (reached.amax(0) == middle + encoder.radius).all()


# Windows


@pytest.mark.parametrize(
    "window",
    [(0, 0, 11, 5), (-1, 0, 5, 5), (0, 8, 5, 5), (0, 0, 0, 5), (3, 3, 5, -1)],
)
def test_a_window_outside_the_output_is_refused(window):
    with pytest.raises(UserError, match="window"):
        check_window((10, 12), window)


def test_a_window_of_a_drawn_picture_is_a_crop_of_it():
    """A model that draws its picture draws all of it."""
    idm, lr = awake(build("idm", "tiny")), to_tensor(picture(4, 5))
    full = render(idm, lr, (12, 15))
    assert torch.equal(full, idm.sample(lr, (12, 15))[0])
    part = render(idm, lr, (12, 15), window=(2, 3, 7, 8), tile=2)
    assert torch.equal(part, full[:, 2:9, 3:11])
