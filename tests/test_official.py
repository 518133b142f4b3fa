"""The authors' files: their outputs, and one clear line for every other file.

The references below know nothing of our modules. They take the authors' tensors by
the authors' names, and follow their formulas in float64 for queries that lie on no tie.
"""

import itertools
import json
import os
import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import GOLDEN, golden_state, golden_tensor, near, picture
from PIL import Image

from asr_course.__main__ import main
from asr_course.coords import make_cell, make_coord
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.models.layers import Features
from asr_course.models.liif import LIIF, LIIFOptions
from asr_course.official import encoder_of, from_official, load_official
from asr_course.states import load_state
from asr_course.weights import load_model, load_weights, read_card, save_weights

MODES = list(itertools.product((1, 2, 3), (False, True)))  # of DIINN, and its init_q
CHECKPOINT = GOLDEN / "liif_tiny_checkpoint.pth"

# Files in the authors' layouts --------------------------------------------------------


def filled(shapes: dict) -> dict:
    """Random weights of these shapes, and a bias for each but LTE's phase."""
    state = {}
    for key, shape in shapes.items():
        fan_in = np.prod(shape[1:])
        state[f"{key}.weight"] = torch.randn(shape) * (1.5 / fan_in) ** 0.5
        if key != "phase":
            state[f"{key}.bias"] = torch.randn(shape[0]) * 0.2
    return state


def edsr(blocks: int, channels: int) -> dict:
    """Shapes of EDSR's tensors under its names, its colour shifts included."""
    square = (channels, channels, 3, 3)
    body = {f"encoder.body.{k}.body.{i}": square for k in range(blocks) for i in (0, 2)}
    shifts = {f"encoder.{name}_mean": (3, 3, 1, 1) for name in ("sub", "add")}
    head = {"encoder.head.0": (channels, 3, 3, 3)}
    return {**shifts, **head, **body, f"encoder.body.{blocks}": square}


def rdn(channels: int, growth: int, blocks: int, layers: int) -> dict:
    """Shapes of RDN's tensors under its names."""
    shapes = {
        "encoder.SFENet1": (channels, 3, 3, 3),
        "encoder.SFENet2": (channels, channels, 3, 3),
        "encoder.GFF.0": (channels, blocks * channels, 1, 1),
        "encoder.GFF.1": (channels, channels, 3, 3),
    }
    for k in range(blocks):
        for c in range(layers):
            inputs = channels + c * growth
            shapes[f"encoder.RDBs.{k}.convs.{c}.conv.0"] = (growth, inputs, 3, 3)
        inputs = channels + layers * growth
        shapes[f"encoder.RDBs.{k}.LFF"] = (channels, inputs, 1, 1)
    return shapes


def mlp(prefix: str, *sizes: int, tail: tuple = ()) -> dict:
    """Shapes of an MLP's tensors, which count the ReLUs too."""
    pairs = zip(sizes[1:], sizes[:-1], strict=True)
    return {f"{prefix}layers.{2 * k}": (*pair, *tail) for k, pair in enumerate(pairs)}


def spec(name: str, **args) -> dict:
    """An encoder's description."""
    return {"name": name, "args": {"no_upsampling": True, **args}}


def imnet(*hidden: int) -> dict:
    """An MLP's description."""
    return {"name": "mlp", "args": {"out_dim": 3, "hidden_list": list(hidden)}}


def layout(name: str, args: dict, state: dict) -> dict:
    """What LIIF's and LTE's programs save."""
    optimizer = {"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": {}}}
    model = {"name": name, "args": args, "sd": state}
    return {"model": model, "optimizer": optimizer, "epoch": 7}


def lightning(mode: int, init_q: bool, state: dict, arch="diinn") -> dict:
    """What DIINN's program saves."""
    half = {key: torch.full((1, 1, 1, 1), 0.5) for key in ("sub", "div")}
    told = {"arch": arch, "mode": mode, "init_q": init_q, "lr": 1e-4, "lr_step": 10}
    return {
        "epoch": 49,
        "pytorch-lightning_version": "1.6.3",
        "state_dict": half | {f"net.{key}": value for key, value in state.items()},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.03)}},
        "hyper_parameters": told,
    }


@pytest.fixture
def keep(tmp_path):
    """Saves a content, and gives the file's path."""

    def save(content, name="authors.pth", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


# References ---------------------------------------------------------------------------


def wide(state: dict) -> dict:
    """`state` in float64."""
    return {key: value.double() for key, value in state.items()}


def conv(state: dict, key: str, x):
    weight = state[f"{key}.weight"]
    return F.conv2d(x, weight, state[f"{key}.bias"], padding=weight.shape[-1] // 2)


def run_edsr(state: dict, x, scale=1.0):
    x = y = conv(state, "encoder.head.0", x)
    blocks = len([key for key in state if key.endswith("body.0.weight")])
    for k in range(blocks):
        z = conv(state, f"encoder.body.{k}.body.0", y).relu()
        y = y + scale * conv(state, f"encoder.body.{k}.body.2", z)
    return x + conv(state, f"encoder.body.{blocks}", y)


def run_rdn(state: dict, x):
    first = conv(state, "encoder.SFENet1", x)
    y, outputs = conv(state, "encoder.SFENet2", first), []
    while (block := f"encoder.RDBs.{len(outputs)}") + ".LFF.weight" in state:
        seen, c = y, 0
        while f"{block}.convs.{c}.conv.0.weight" in state:
            seen = torch.cat([seen, conv(state, f"{block}.convs.{c}.conv.0", seen)], 1)
            seen[:, -state[f"{block}.convs.{c}.conv.0.bias"].shape[0] :].relu_()
            c += 1
        y = y + conv(state, f"{block}.LFF", seen)
        outputs.append(y)
    fused = conv(state, "encoder.GFF.0", torch.cat(outputs, 1))
    return first + conv(state, "encoder.GFF.1", fused)


def run_mlp(state: dict, prefix: str, x):
    last = max(int(key.split(".")[-2]) for key in state if key.startswith(prefix))
    for k in range(0, last + 1, 2):
        weight = state[f"{prefix}{k}.weight"].flatten(1)
        x = x @ weight.mT + state[f"{prefix}{k}.bias"]
        x = x if k == last else x.relu()
    return x


def looked_up(size, coord, corners):
    """[(row, column, way there (Q, 2), area)] of the codes that answer `coord` (Q, 2).

    The code nearest to the query moved by half a cell each way; ways are doubled, so
    that a cell is 2 wide.
    """
    found = []
    extent = coord.new_tensor(size)
    for shift in itertools.product((-1, 1), repeat=2) if corners else [(0, 0)]:
        moved = coord + coord.new_tensor(shift) / extent
        moved = moved.clamp(-1 + 1e-6, 1 - 1e-6)
        place = ((moved + 1) * extent / 2).floor()
        way = (coord - (2 * place + 1) / extent + 1) * extent
        row, col = place.long().unbind(-1)
        found.append((row, col, way, way.prod(-1).abs() + 1e-9))
    return found


def blended(answers, found):
    """Each answer counts as the area on the opposite side."""
    areas = torch.stack([area for *_, area in found])
    return (torch.stack(answers) * (areas.flip(0) / areas.sum(0))[..., None]).sum(0)


def unfolded(latent):
    """The 3x3 neighbourhood of each code, channel by channel, zeros outside."""
    C, H, W = latent.shape
    ring = F.pad(latent, (1, 1, 1, 1))
    nine = [ring[:, r : r + H, c : c + W] for r in range(3) for c in range(3)]
    return torch.stack(nine, 1).flatten(0, 1)


def run_liif(state, latent, coord, cell, corners=True, unfold=True, cells=True):
    """(C, H, W), (Q, 2), (2,) -> (Q, 3)."""
    size = latent.shape[1:]
    grid = unfolded(latent) if unfold else latent
    found, answers = looked_up(size, coord, corners), []
    for row, col, way, _ in found:
        told = [grid[:, row, col].T, way]
        if cells:
            told.append((cell * cell.new_tensor(size)).expand_as(way))
        answers.append(run_mlp(state, "imnet.layers.", torch.cat(told, -1)))
    return blended(answers, found)


def run_lte(state, latent, lr, coord, cell, prefix, halves):
    """(C, H, W), (3, H, W), (Q, 2), (2,) -> (Q, 3)."""
    size = latent.shape[1:]
    amplitude = conv(state, "coef", latent[None])[0]
    frequency = conv(state, "freq", latent[None])[0]
    D = len(amplitude)
    pairs = [torch.arange(D // 2) + k * D // 2 for k in (0, 1)]
    down, right = pairs if halves else (2 * pairs[0], 2 * pairs[0] + 1)
    phase = state["phase.weight"] @ (cell * cell.new_tensor(size))
    found, answers = looked_up(size, coord, True), []
    for row, col, way, _ in found:
        at = frequency[:, row, col].T
        turn = torch.pi * (at[:, down] * way[:, :1] + at[:, right] * way[:, 1:] + phase)
        waves = torch.cat([turn.cos(), turn.sin()], -1)
        answers.append(run_mlp(state, prefix, amplitude[:, row, col].T * waves))
    grid = coord.flip(-1)[None, None]
    skip = F.grid_sample(lr[None], grid, padding_mode="border", align_corners=False)
    return blended(answers, found) + skip[0, :, 0].T


def run_diinn(state, latent, coord, cell, mode, init_q):
    """(C, H, W), (Q, 2), (2,) -> (Q, 3)."""
    size = latent.shape[1:]
    ((row, col, way, _),) = looked_up(size, coord, False)
    z = unfolded(latent)[:, row, col].T
    area = (cell * cell.new_tensor(size) / 2).prod().expand(len(way), 1)
    p = torch.cat([way, area], -1)

    def layer(key, x):
        return (
            x @ state[f"decoder.{key}.weight"].flatten(1).mT
            + state[f"decoder.{key}.bias"]
        )

    if init_q:
        p = layer("first_layer.0", p).sin()
        z = p * z
    k = layer("K.0.0", z).relu()
    q = k * layer("Q.0.0", p).sin()
    i = 1
    while f"decoder.K.{i}.0.weight" in state:
        seen = {1: [k], 2: [k, z], 3: [q, z]}[mode]
        k = layer(f"K.{i}.0", torch.cat(seen, -1)).relu()
        q = k * layer(f"Q.{i}.0", q).sin()
        i += 1
    return layer("last_layer", q)


def check_equal(path, latent_of, answer_of) -> None:
    """A file's model against a reference: two pictures, 60 random queries of each."""
    model = load_official(path)
    assert not model.training
    lr = torch.rand(2, 3, 7, 9)
    coord = torch.rand(2, 60, 2) * 1.98 - 0.99
    cell = torch.tensor([[0.11, 0.08], [0.15, 0.12]])  # no scale is above x4
    with torch.no_grad():
        found = model(lr, coord[:, :, None], cell)[..., 0].mT * 2 - 1
        normal = lr.double() * 2 - 1
        latent = latent_of(normal)
        near(model.encode(lr).latent, latent)
        for b in range(2):
            at = (coord[b].double(), cell[b].double())
            expected = answer_of(latent[b], normal[b], *at)
            assert expected.std() > 0.05
            near(found[b], expected)


# Their outputs ------------------------------------------------------------------------

LIIFS = {
    "other sizes": (spec("edsr-baseline", n_resblocks=3, n_feats=10), (20, 12, 8), {}),
    "no cells": (spec("edsr-baseline"), (7,), {"cell_decode": False}),
    "RDN, no neighbours": (
        spec("rdn", RDNconfig="A"),
        (16, 16),
        {"feat_unfold": False},
    ),
    "one code": (spec("edsr-baseline"), (9, 9), {"local_ensemble": False}),
    "scaled blocks": (spec("edsr"), (12,), {}),
    "scaled as told": (spec("edsr-baseline", res_scale=0.3), (12,), {}),
}


@pytest.mark.parametrize("variant", LIIFS)
def test_liif_of_any_sizes_gives_its_authors_outputs(variant, keep):
    encoder, hidden, switches = LIIFS[variant]
    shapes = rdn(6, 4, 2, 3) if encoder["name"] == "rdn" else edsr(3, 10)
    channels = 6 if encoder["name"] == "rdn" else 10
    inputs = channels * (9 if switches.get("feat_unfold", True) else 1)
    inputs += 4 if switches.get("cell_decode", True) else 2
    state = filled(shapes | mlp("imnet.", inputs, *hidden, 3))
    args = {"encoder_spec": encoder, "imnet_spec": imnet(*hidden), **switches}
    path, exact = keep(layout("liif", args, state)), wide(state)
    scale = {"scaled blocks": 0.1, "scaled as told": 0.3}.get(variant, 1.0)
    check_equal(
        path,
        lambda x: run_rdn(exact, x) if channels == 6 else run_edsr(exact, x, scale),
        lambda latent, lr, coord, cell: run_liif(
            exact, latent, coord, cell, *told(switches)
        ),
    )
    assert load_official(path).options.hidden == hidden


def told(switches: dict) -> tuple[bool, bool, bool]:
    """LIIF's three switches, which are on if not told."""
    names = ("local_ensemble", "feat_unfold", "cell_decode")
    return tuple(switches.get(name, True) for name in names)


@pytest.mark.parametrize("name", ["lte", "lte-fast"])
def test_lte_of_any_sizes_gives_its_authors_outputs(name, keep):
    fast = name == "lte-fast"
    waves = {"coef": (14, 6, 3, 3), "freq": (14, 6, 3, 3), "phase": (7, 2)}
    layers = mlp("" if fast else "imnet.", 14, 14, 10, 3, tail=(1, 1) if fast else ())
    state = filled(edsr(2, 6) | waves | layers)
    args = {"encoder_spec": spec("edsr-baseline"), "hidden_dim": 14}
    args |= {"num_layer": 2, "out_dim": 3} if fast else {"imnet_spec": imnet(14, 10)}
    exact = wide(state)
    prefix = "layers." if fast else "imnet.layers."
    check_equal(
        keep(layout(name, args, state)),
        lambda x: run_edsr(exact, x),
        lambda *given: run_lte(exact, *given, prefix, fast),
    )


@pytest.mark.parametrize("arch", ["diinn", "imsisr"])
@pytest.mark.parametrize("mode, init_q", MODES)
def test_diinn_of_any_sizes_gives_its_authors_outputs(mode, init_q, arch, keep):
    shapes, z, hidden = rdn(5, 3, 2, 2), 45, (8, 6, 7)
    shapes |= {"decoder.first_layer.0": (z, 3, 1, 1)} if init_q else {}
    inputs, again = z, 0 if mode == 1 else z
    before = z if init_q else 3
    for k, width in enumerate(hidden):
        shapes[f"decoder.K.{k}.0"] = (width, inputs, 1, 1)
        shapes[f"decoder.Q.{k}.0"] = (width, before, 1, 1)
        inputs, before = width + again, width
    state = filled(shapes | {"decoder.last_layer": (3, hidden[-1], 1, 1)})
    exact = wide(state)
    check_equal(
        keep(lightning(mode, init_q, state, arch), "last.ckpt"),
        lambda x: run_rdn(exact, x),
        lambda latent, lr, *at: run_diinn(exact, latent, *at, mode, init_q),
    )


@torch.no_grad()
def test_liifs_own_checkpoint_gives_its_predictions():
    model = load_official(CHECKPOINT)

    def expected(key):
        return golden_tensor("liif_tiny_checkpoint_expected", key)

    lr = expected("inp") * 0.5 + 0.5
    rgb = model(lr, expected("coord")[:, :, None], expected("cell")[:, 0])
    prediction = rgb[..., 0].mT * 2 - 1
    near(prediction, expected("pred_after_step"))
    loss = (prediction - expected("gt")).abs().mean().item()
    assert loss < expected("l1_loss_before_step").item()  # one step of Adam helped


EDSR_2_16 = spec("edsr-baseline", n_resblocks=2, n_feats=16)


def golden_layout(name: str) -> dict:
    """The golden weights of a model as its program would save them."""
    args = {"encoder_spec": EDSR_2_16}
    if name == "lte":
        args |= {"imnet_spec": imnet(32, 32, 32), "hidden_dim": 32}
    if name == "lte-fast":
        args |= {"num_layer": 3, "hidden_dim": 32, "out_dim": 3}
    file = name.removesuffix("-fast")
    prefix = "sd_fast/" if name == "lte-fast" else "sd/"
    return layout(name, args, golden_state(file, prefix))


@torch.no_grad()
@pytest.mark.parametrize("name", ["metasr", "lte", "lte-fast"])
def test_golden_weights_give_their_outputs_from_a_file(name, keep):
    model = load_official(keep(golden_layout(name)))
    file = name.removesuffix("-fast")
    lr = golden_tensor(file, "in/inp") * 0.5 + 0.5
    if name == "lte-fast":
        at = golden_tensor(file, "in/coord_fast"), golden_tensor(file, "in/cell_fast")
        near(model(lr, *at) * 2 - 1, golden_tensor(file, "out/fast"))
        return
    for letter in "AB":
        coord = golden_tensor(file, f"in/coord{letter}")
        cell = golden_tensor(file, f"in/cell{letter}")[:, 0]
        found = model(lr, coord[:, :, None], cell)[..., 0].mT * 2 - 1
        near(found, golden_tensor(file, f"out/{letter}"), 2e-5)  # of numbers up to 10


@torch.no_grad()
@pytest.mark.parametrize("mode, init_q", MODES)
def test_golden_diinn_gives_its_outputs_from_a_file(mode, init_q, keep):
    """Its decoder was run on given features, an RDN stands in for their encoder."""
    variant = f"mode{mode}_iq{int(init_q)}"
    encoder = golden_state("encoders", "rdn/")
    state = {f"encoder.{key}": value for key, value in encoder.items()}
    state |= golden_state("diinn", f"sd_{variant}/")
    model = load_official(keep(lightning(mode, init_q, state), "last.ckpt"))
    near(
        model.encode(golden_tensor("encoders", "in/inp") * 0.5 + 0.5).latent,
        golden_tensor("encoders", "out/rdn"),
    )
    latent = golden_tensor("diinn", "in/feat")
    features = Features(latent[:, :3], latent, model.content(latent).contiguous())
    coord, cell = make_coord((11, 17))[None], make_cell((11, 17))[None]
    rgb = model.decode(features, coord.expand(2, -1, -1, -1), cell.expand(2, -1))
    near(rgb * 2 - 1, golden_tensor("diinn", f"out/{variant}/11x17"))


@torch.no_grad()
def test_golden_swinir_gives_its_features_from_a_file(keep):
    state = {f"encoder.{k}": v for k, v in golden_state("swinir", "sd/").items()}
    state |= filled(mlp("imnet.", 64 * 9 + 4, 8, 3))
    args = {"encoder_spec": spec("swinir"), "imnet_spec": imnet(8)}
    model = load_official(keep(layout("liif", args, state)))
    found = model.encode(golden_tensor("swinir", "in/x") * 0.5 + 0.5).latent
    near(found, golden_tensor("swinir", "out/x"))


@torch.no_grad()
def test_blocks_that_scale_what_they_add_are_folded():
    """The golden network goes on with a tail for x3, which is run here."""
    golden = golden_state("encoders", "edsr_x3_rs01/")
    trunk = {f"encoder.{k}": v for k, v in golden.items() if "tail" not in k}
    state = from_official(trunk)
    encoder = encoder_of(spec("edsr-baseline", res_scale=0.1), state)
    load_state(encoder, {k.removeprefix("encoder."): v for k, v in state.items()}, "")
    x = encoder(golden_tensor("encoders", "in/inp"))
    x = F.pixel_shuffle(conv(golden, "tail.0.0", x), 3)
    near(conv(golden, "tail.1", x), golden_tensor("encoders", "out/edsr_x3_rs01"))


# What else a file may be --------------------------------------------------------------


def test_official_names_are_all_translated():
    """One of ours for each of theirs, the two colour shifts aside."""
    checkpoint = torch.load(CHECKPOINT, weights_only=True)
    official = checkpoint["model"]["sd"]
    renamed = from_official(official)
    assert len([key for key in official if "_mean." in key]) == 4
    assert len(renamed) == len(official) - 4
    model = LIIF(EDSR(2, 16), LIIFOptions(hidden=(32, 32)))
    assert renamed.keys() == model.state_dict().keys()


def test_files_of_old_pytorch_load_too(keep):
    content = torch.load(CHECKPOINT, weights_only=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        old = load_official(keep(content, _use_new_zipfile_serialization=False))
    new = load_official(CHECKPOINT).state_dict()
    assert all(torch.equal(value, new[key]) for key, value in old.state_dict().items())


def test_the_model_outlives_its_file(keep):
    path = keep(torch.load(CHECKPOINT, weights_only=True))
    model = load_official(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    expected = load_official(CHECKPOINT).state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, expected[key])


def test_load_model_and_read_card_take_authors_files():
    assert isinstance(load_model(str(CHECKPOINT)), LIIF)
    config = read_card(CHECKPOINT)["config"]
    assert (config["name"], config["encoder"]) == ("liif", None)
    assert config["options"]["hidden"] == (32, 32)


def test_known_sizes_can_be_kept_as_weights_and_others_cannot(keep, tmp_path):
    state = filled(edsr(4, 24) | mlp("imnet.", 24 * 9 + 4, 8, 3))
    args = {"encoder_spec": spec("edsr-baseline"), "imnet_spec": imnet(8)}
    model = load_official(keep(layout("liif", args, state)))
    assert model.config["encoder"] == "edsr-tiny"
    save_weights(model, tmp_path / "ours.safetensors", {})
    again = load_weights(tmp_path / "ours.safetensors")
    assert again.options == model.options
    for key, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[key])
    with pytest.raises(UserError, match="not written: the encoder has none of the siz"):
        save_weights(load_official(CHECKPOINT), tmp_path / "b.safetensors", {})
    assert not (tmp_path / "b.safetensors").exists()


def test_lte_keeps_its_evaluations_rule_above_x4(keep):
    assert load_official(keep(golden_layout("lte"))).options.freeze_cell is True


def test_upscale_and_evaluate_take_authors_files(tmp_path, capsys):
    Image.fromarray(picture(40, 44)).save(tmp_path / "a.png")
    out, rows = tmp_path / "out" / "b.png", tmp_path / "rows.json"
    out.parent.mkdir()
    words = ["--model", str(CHECKPOINT)]
    asked = ["upscale", str(tmp_path / "a.png"), str(out), "--scale", "1.5", *words]
    assert main(asked) == 0
    assert Image.open(out).size == (66, 60)
    asked = ["evaluate", *words, "--data", str(tmp_path), "--scales", "2"]
    assert main([*asked, "--json", str(rows)]) == 0
    assert json.loads(rows.read_text())[0]["method"] == "liif"


# What is refused ----------------------------------------------------------------------


def refusal(path) -> str:
    """What a person is told, which is one line that names the file."""
    with warnings.catch_warnings(), pytest.raises(UserError) as caught:
        warnings.simplefilter("error")
        load_official(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 500
    return message


class Program:
    """What pickles as a call that makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (os.mkdir, (str(self.mark),))


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "in the layout"])
def test_a_program_in_a_pickle_is_refused_and_not_run(how, keep, tmp_path):
    program, path = Program(tmp_path / "mark"), tmp_path / "authors.pth"
    content = {"model": program}
    if how == "in the layout":
        content = torch.load(CHECKPOINT, weights_only=True)
        content["model"]["args"]["imnet_spec"] = program
    if how == "pickle":
        path.write_bytes(pickle.dumps(content))
    else:
        keep(content, _use_new_zipfile_serialization=how != "legacy")
    said = refusal(path)
    assert "may be a program" in said if how == "pickle" else ".mkdir. Nothing" in said
    assert "Nothing of it was run" in said
    assert not (tmp_path / "mark").exists()
    run = pickle.load if how == "pickle" else partial(torch.load, weights_only=False)
    with path.open("rb") as file:
        run(file)
    assert (tmp_path / "mark").exists()  # it would have been


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_a_file_that_was_cut_is_refused(share, tmp_path):
    path, whole = tmp_path / "authors.pth", CHECKPOINT.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "ends too early: it was cut" in refusal(path)


@pytest.mark.parametrize("share", [0.001, 0.3, 0.98])
def test_an_old_file_that_was_cut_is_refused(share, keep):
    content = torch.load(CHECKPOINT, weights_only=True)
    path = keep(content, _use_new_zipfile_serialization=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    assert "is damaged" in refusal(path)


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_file_is_refused_or_harmless(seed, tmp_path):
    """A thousand bytes of it are other ones: no error but ours."""
    rng, path = np.random.default_rng(seed), tmp_path / "authors.pth"
    whole = np.frombuffer(CHECKPOINT.read_bytes(), np.uint8).copy()
    places = rng.integers(0, len(whole), 1000)
    whole[places] = rng.integers(0, 256, 1000)
    path.write_bytes(whole.tobytes())
    refusal(path)


@pytest.mark.parametrize(
    "content, words",
    [
        (b"", "is empty"),
        (b"Dear reader,\nthis is no checkpoint", r"begins with b'Dear reader,'"),
        (b"\n <!DOCTYPE html><title>Quota exceeded", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run `git lfs pull`"),
        (b"\0" * 400, "is no checkpoint"),
        (b"\x80\x05hello", "is damaged"),
    ],
)
def test_files_that_are_no_checkpoints_are_refused(content, words, tmp_path):
    path = tmp_path / "authors.pth"
    path.write_bytes(content)
    assert words in refusal(path)


def test_missing_files_and_folders_are_told_apart(tmp_path):
    assert "no such weights file" in refusal(tmp_path / "a.pth")
    (tmp_path / "b.pth").mkdir()
    assert "cannot be read: Is a directory" in refusal(tmp_path / "b.pth")


def test_an_archive_of_something_else_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    (tmp_path / "a.npz").rename(tmp_path / "authors.pth")
    assert "cannot be read as a checkpoint" in refusal(tmp_path / "authors.pth")


@pytest.mark.parametrize(
    "content, words",
    [
        ({"conv1.weight": torch.zeros(2), "fc.bias": torch.zeros(1)}, "'conv1.weight'"),
        ([torch.zeros(2)], "it holds list"),
        (torch.zeros(2), "it holds Tensor"),
        ({}, "it holds dict"),
        ({"state_dict": {}, "epoch": 3}, "it holds 'state_dict', 'epoch'"),
        ({"model": {"name": "liif"}}, "no dictionary 'args'"),
        ({"model": {"name": "liif", "args": {}, "sd": [1]}}, "no dictionary 'sd'"),
        (layout("liif", {}, {}), "no dictionary 'encoder_spec'"),
        (layout("edsr-baseline", {}, {}), "choose from liif, metasr, lte, lte-fast"),
        (layout("ltte", {}, {}), "Did you mean 'lte'"),
        (layout(["liif"], {}, {}), "unknown model"),
        (layout("liif", {"skip": True}, {}), "unknown argument of liif"),
        (layout("liif", {"encoder_spec": EDSR_2_16}, {"a": 1}), "'a' is not a named"),
        (layout("liif", {"encoder_spec": EDSR_2_16}, {0: torch.ones(1)}), "'0' is not"),
        (layout("liif", {"encoder_spec": spec("rcan")}, {}), "unknown encoder 'rcan'"),
        (layout("liif", {"encoder_spec": {"name": "rdn"}}, {}), "an upsampling tail"),
        (layout("lte", {"encoder_spec": spec("rdn")}, {}), "do not fit together"),
        (layout("lte", {"encoder_spec": spec("swinir")}, {}), "do not fit together"),
        (layout("metasr", {"encoder_spec": EDSR_2_16}, {}), "do not fit together"),
        (lightning(4, False, {}), "do not fit together"),
        (lightning(3, False, {}, arch="metasr"), "choose from diinn, imsisr"),
    ],
)
def test_files_of_other_models_are_refused(content, words, keep):
    assert words in refusal(keep(content))


def changed(change) -> dict:
    """LIIF's own checkpoint with its model changed."""
    content = torch.load(CHECKPOINT, weights_only=True)
    change(content["model"]["args"], content["model"]["sd"])
    return content


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda args, sd: sd.pop("imnet.layers.0.bias"), "missing mlp.layers.0.bias"),
        (lambda args, sd: sd.update(x=torch.ones(1)), "unexpected x"),
        (
            lambda args, sd: sd.update({"imnet.layers.2.bias": torch.ones(9)}),
            "mlp.layers.1.bias is (9,), expected (32,)",
        ),
        (
            lambda args, sd: sd.update({"encoder.head.0.bias": torch.ones(16).long()}),
            "encoder.head.bias holds torch.int64",
        ),
        (
            lambda args, sd: sd.update({"encoder.body.3.bias": torch.ones(16)}),
            "two tensors for encoder.last.bias",
        ),
        (lambda args, sd: sd["imnet.layers.4.bias"].fill_(torch.nan), "holds NaN"),
        (lambda args, sd: args.update(cell_decode=False), "expected (32, 146)"),
        (lambda args, sd: args.update(feat_unfold="no"), "must be True or False"),
        (
            lambda args, sd: args["encoder_spec"]["args"].update(res_scale="a"),
            "res_scale must be a number",
        ),
        (
            lambda args, sd: [sd.pop(key) for key in list(sd) if "imnet" in key],
            "no MLP (imnet_spec)",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused(change, words, keep):
    assert words in refusal(keep(changed(change)))


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda held: held["hyper_parameters"].update(mode=4), "unknown mode '4'"),
        (lambda held: held["hyper_parameters"].update(init_q=None), "init_q must be"),
        (lambda held: held["state_dict"]["div"].fill_(1), "in another range"),
        (lambda held: held.update(state_dict=3), "no dictionary 'state_dict'"),
    ],
)
def test_diinns_that_cannot_be_built_are_refused(change, words, keep):
    encoder = golden_state("encoders", "rdn/")
    state = {f"encoder.{key}": value for key, value in encoder.items()}
    state |= golden_state("diinn", "sd_mode3_iq0/")
    held = lightning(3, False, state)
    change(held)
    assert words in refusal(keep(held, "last.ckpt"))


def test_heads_that_do_not_share_the_channels_are_refused(keep):
    state = {f"encoder.{k}": v for k, v in golden_state("swinir", "sd/").items()}
    for key in [key for key in state if key.endswith("bias_table")]:
        state[key] = torch.zeros(49, 5)
    state |= filled(mlp("imnet.", 64 * 9 + 4, 8, 3))
    args = {"encoder_spec": spec("swinir"), "imnet_spec": imnet(8)}
    assert "5 heads do not share 12" in refusal(keep(layout("liif", args, state)))


def test_the_command_line_says_it_in_one_line(tmp_path, capsys):
    path = tmp_path / "authors.pth"
    path.write_text("hello")
    Image.fromarray(picture(6, 6)).save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), str(tmp_path / "b.png"), "--scale", "2"]
    assert main(["upscale", *words, "--model", str(path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "is no checkpoint" in said
