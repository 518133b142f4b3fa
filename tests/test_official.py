"""The authors' files: their outputs, and one clear sentence for every other file.

The references below know nothing of our modules. They take the authors' tensors by
the authors' names, and follow their formulas in float64 for queries that lie on no tie.
"""

import itertools
import json
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from helpers import GOLDEN, golden_state, golden_tensor, near, picture
from PIL import Image

from asr_course.__main__ import main
from asr_course.errors import UserError
from asr_course.official import encoder_of, from_official, load_official
from asr_course.weights import load_weights, save_weights

CHECKPOINT = GOLDEN / "liif_tiny_checkpoint.pth"


def filled(shapes: dict) -> dict:
    """Random weights of these shapes, and a bias for each."""
    state = {}
    for key, shape in shapes.items():
        fan_in = np.prod(shape[1:])
        state[f"{key}.weight"] = torch.randn(shape) * (1.5 / fan_in) ** 0.5
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
        inputs = [channels + c * growth for c in range(layers + 1)]
        for c in range(layers):
            shapes[f"encoder.RDBs.{k}.convs.{c}.conv.0"] = (growth, inputs[c], 3, 3)
        shapes[f"encoder.RDBs.{k}.LFF"] = (channels, inputs[-1], 1, 1)
    return shapes


def imnet(*sizes: int) -> dict:
    """Shapes of an MLP's tensors, which count the ReLUs too."""
    return {
        f"imnet.layers.{2 * k}": (b, a)
        for k, (a, b) in enumerate(itertools.pairwise(sizes))
    }


def spec(name: str, **args) -> dict:
    """An encoder's description."""
    return {"name": name, "args": {"no_upsampling": True, **args}}


def layout(name: str, args: dict, state: dict) -> dict:
    """What LIIF's and LTE's programs save."""
    optimizer = {"name": "adam", "args": {"lr": 1e-4}, "sd": {"state": {}}}
    model = {"name": name, "args": args, "sd": state}
    return {"model": model, "optimizer": optimizer, "epoch": 7}


def lightning(mode: int, init_q: bool, state: dict, arch="diinn") -> dict:
    """What DIINN's program saves."""
    half = {key: torch.full((1, 1, 1, 1), 0.5) for key in ("sub", "div")}
    return {
        "epoch": 49,
        "state_dict": half | {f"net.{key}": value for key, value in state.items()},
        "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(0.03)}},
        "hyper_parameters": {"arch": arch, "mode": mode, "init_q": init_q, "lr": 1e-4},
    }


@pytest.fixture
def keep(tmp_path):
    """Saves a content, and gives the file's path."""

    def save(content, name="authors.pth", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return save


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
        while (key := f"{block}.convs.{c}.conv.0") + ".weight" in state:
            seen, c = torch.cat([seen, conv(state, key, seen).relu()], 1), c + 1
        y = y + conv(state, f"{block}.LFF", seen)
        outputs.append(y)
    fused = conv(state, "encoder.GFF.0", torch.cat(outputs, 1))
    return first + conv(state, "encoder.GFF.1", fused)


def linear(state: dict, key: str, x):
    return x @ state[f"{key}.weight"].flatten(1).mT + state[f"{key}.bias"]


def nearest_codes(size, coord, corners):
    """[(row, column, offset (Q, 2), area)] of the latent codes for `coord` (Q, 2).

    The nearest code after a shift of the query by half a cell; a cell is 2 wide.
    """
    codes = []
    extent = coord.new_tensor(size)
    for shift in itertools.product((-1, 1), repeat=2) if corners else [(0, 0)]:
        moved = coord + coord.new_tensor(shift) / extent
        moved = moved.clamp(-1 + 1e-6, 1 - 1e-6)
        place = ((moved + 1) * extent / 2).floor()
        offset = (coord - (2 * place + 1) / extent + 1) * extent
        row, col = place.long().unbind(-1)
        codes.append((row, col, offset, offset.prod(-1).abs() + 1e-9))
    return codes


def unfolded(latent):
    """The 3x3 neighbourhood of each code, channel by channel, zeros outside."""
    C, H, W = latent.shape
    ring = F.pad(latent, (1, 1, 1, 1))
    nine = [ring[:, r : r + H, c : c + W] for r in range(3) for c in range(3)]
    return torch.stack(nine, 1).flatten(0, 1)


def run_liif(state, latent, coord, cell, **switches):
    """(C, H, W), (Q, 2), (2,) -> (Q, 3); a colour's weight is the opposite area."""
    size = latent.shape[1:]
    grid = unfolded(latent) if switches.get("feat_unfold", True) else latent
    codes = nearest_codes(size, coord, switches.get("local_ensemble", True))
    layers = [key[:-7] for key in state if key.startswith("imnet") and "weight" in key]
    rgbs = []
    for row, col, offset, _ in codes:
        x = torch.cat([grid[:, row, col].T, offset], -1)
        if switches.get("cell_decode", True):
            x = torch.cat([x, (cell * cell.new_tensor(size)).expand_as(offset)], -1)
        for key in layers[:-1]:
            x = linear(state, key, x).relu()
        rgbs.append(linear(state, layers[-1], x))
    areas = torch.stack([area for *_, area in codes])
    return (torch.stack(rgbs) * (areas.flip(0) / areas.sum(0))[..., None]).sum(0)


def run_diinn(state, latent, coord, cell, mode, init_q):
    """(C, H, W), (Q, 2), (2,) -> (Q, 3)."""
    size = latent.shape[1:]
    ((row, col, offset, _),) = nearest_codes(size, coord, False)
    z = unfolded(latent)[:, row, col].T
    area = (cell * cell.new_tensor(size) / 2).prod().expand(len(offset), 1)
    p = torch.cat([offset, area], -1)
    if init_q:
        p = linear(state, "decoder.first_layer.0", p).sin()
        z = p * z
    k = linear(state, "decoder.K.0.0", z).relu()
    q = k * linear(state, "decoder.Q.0.0", p).sin()
    for i in (1, 2):
        seen = {1: [k], 2: [k, z], 3: [q, z]}[mode]
        k = linear(state, f"decoder.K.{i}.0", torch.cat(seen, -1)).relu()
        q = k * linear(state, f"decoder.Q.{i}.0", q).sin()
    return linear(state, "decoder.last_layer", q)


@torch.no_grad()
def check_equal(path, latent_of, answer_of) -> None:
    """A file's model against a reference: two pictures, 60 random queries of each."""
    model = load_official(path)
    assert not model.training
    lr = torch.rand(2, 3, 7, 9)
    coord = torch.rand(2, 60, 2) * 1.98 - 0.99
    cell = torch.tensor([[0.11, 0.08], [0.15, 0.12]])
    output = model(lr, coord[:, :, None], cell)[..., 0].mT * 2 - 1
    latent = latent_of(lr.double() * 2 - 1)
    near(model.encode(lr).latent, latent)
    for b in range(2):
        expected = answer_of(latent[b], coord[b].double(), cell[b].double())
        assert expected.std() > 0.05
        near(output[b], expected)


BASELINE = spec("edsr-baseline")
LIIFS = {
    "other sizes": (BASELINE, (20, 12, 8), {}),
    "no cells": (BASELINE, (7,), {"cell_decode": False}),
    "RDN, no neighbours": (spec("rdn"), (16, 16), {"feat_unfold": False}),
    "one code": (BASELINE, (9, 9), {"local_ensemble": False}),
    "scaled blocks": (spec("edsr"), (12,), {}),
    "scaled as given": (spec("edsr-baseline", res_scale=0.3), (12,), {}),
}


@pytest.mark.parametrize("variant", LIIFS)
def test_liif_of_any_sizes_gives_its_authors_outputs(variant, keep):
    encoder, hidden, switches = LIIFS[variant]
    is_rdn = encoder["name"] == "rdn"
    inputs = 6 if is_rdn else 10 * 9
    inputs += 4 if switches.get("cell_decode", True) else 2
    shapes = rdn(6, 4, 2, 3) if is_rdn else edsr(3, 10)
    state = filled(shapes | imnet(inputs, *hidden, 3))
    exact = {key: value.double() for key, value in state.items()}
    scale = {"scaled blocks": 0.1, "scaled as given": 0.3}.get(variant, 1.0)
    path = keep(layout("liif", {"encoder_spec": encoder, **switches}, state))
    check_equal(
        path,
        lambda x: run_rdn(exact, x) if is_rdn else run_edsr(exact, x, scale),
        lambda *at: run_liif(exact, *at, **switches),
    )
    assert load_official(path).options.hidden == hidden


@pytest.mark.parametrize("mode", [1, 2, 3])
@pytest.mark.parametrize("init_q", [False, True])
def test_diinn_of_any_sizes_gives_its_authors_outputs(mode, init_q, keep):
    shapes, z, hidden = rdn(5, 3, 2, 2), 45, (8, 6, 7)
    shapes |= {"decoder.first_layer.0": (z, 3, 1, 1)} if init_q else {}
    inputs, before = z, z if init_q else 3
    for k, width in enumerate(hidden):
        shapes[f"decoder.K.{k}.0"] = (width, inputs, 1, 1)
        shapes[f"decoder.Q.{k}.0"] = (width, before, 1, 1)
        inputs, before = width + (0 if mode == 1 else z), width
    state = filled(shapes | {"decoder.last_layer": (3, hidden[-1], 1, 1)})
    exact = {key: value.double() for key, value in state.items()}
    check_equal(
        keep(lightning(mode, init_q, state), "last.ckpt"),
        lambda x: run_rdn(exact, x),
        lambda *at: run_diinn(exact, *at, mode, init_q),
    )


@torch.no_grad()
def test_liifs_own_checkpoint_gives_its_predictions(keep):
    """Also in the format of old versions of PyTorch."""
    content = torch.load(CHECKPOINT, weights_only=True)
    old = keep(content, _use_new_zipfile_serialization=False)
    given = ("inp", "coord", "cell", "gt", "pred_after_step", "l1_loss_before_step")
    name = "liif_tiny_checkpoint_expected"
    lr, coord, cell, gt, expected, before = (golden_tensor(name, key) for key in given)
    for path in (CHECKPOINT, old):
        rgb = load_official(path)(lr * 0.5 + 0.5, coord[:, :, None], cell[:, 0])
        prediction = rgb[..., 0].mT * 2 - 1
        near(prediction, expected)
        assert (prediction - gt).abs().mean() < before  # one step of Adam helped


def under(prefix: str, state: dict) -> dict:
    return {prefix + key: value for key, value in state.items()}


OTHER_LAYOUTS = {
    "DataParallel": lambda m: {"model": {**m, "sd": under("module.", m["sd"])}},
    "running mean": lambda m: {"params": {}, "params_ema": m["sd"]},
    "generator": lambda m: {"meta": {}, "state_dict": under("generator.", m["sd"])},
    "tensors alone": lambda m: m["sd"],
}


@pytest.mark.parametrize("layout", OTHER_LAYOUTS.values(), ids=OTHER_LAYOUTS)
def test_the_same_tensors_in_the_layouts_of_other_trainers(layout, keep):
    content = torch.load(CHECKPOINT, weights_only=True)
    expected = load_official(CHECKPOINT).state_dict()
    found = load_official(keep(layout(content["model"]), "other.pth")).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ["metasr", "lte", "lte-fast"])
def test_golden_weights_give_their_outputs_from_a_file(name, keep):
    file, _, fast = name.partition("-")
    args = {"encoder_spec": BASELINE, "hidden_dim": 32, "num_layer": 3}
    state = golden_state(file, f"sd_{fast}/" if fast else "sd/")
    model = load_official(keep(layout(name, args, state)))
    lr = golden_tensor(file, "in/inp") * 0.5 + 0.5
    if fast:
        at = golden_tensor(file, "in/coord_fast"), golden_tensor(file, "in/cell_fast")
        near(model(lr, *at) * 2 - 1, golden_tensor(file, "out/fast"))
        return
    coord, cell = (golden_tensor(file, f"in/{key}A") for key in ("coord", "cell"))
    output = model(lr, coord[:, :, None], cell[:, 0])[..., 0].mT * 2 - 1
    near(output, golden_tensor(file, "out/A"), 2e-5)  # of numbers up to 10


@torch.no_grad()
def test_golden_swinir_gives_its_features_from_a_file(keep):
    state = {f"encoder.{k}": v for k, v in golden_state("swinir", "sd/").items()}
    state |= filled(imnet(64 * 9 + 4, 8, 3))
    path = keep(layout("liif", {"encoder_spec": spec("swinir")}, state))
    latent = load_official(path).encode(golden_tensor("swinir", "in/x") * 0.5 + 0.5)
    near(latent.latent, golden_tensor("swinir", "out/x"))


@torch.no_grad()
def test_blocks_that_scale_what_they_add_are_folded():
    """The golden network goes on with a tail for x3, which is run here."""
    golden = golden_state("encoders", "edsr_x3_rs01/")
    trunk = {f"encoder.{k}": v for k, v in golden.items() if "tail" not in k}
    state = from_official(trunk)
    encoder = encoder_of(spec("edsr-baseline", res_scale=0.1), state)
    encoder.load_state_dict({k.removeprefix("encoder."): v for k, v in state.items()})
    x = encoder(golden_tensor("encoders", "in/inp"))
    x = F.pixel_shuffle(conv(golden, "tail.0.0", x), 3)
    near(conv(golden, "tail.1", x), golden_tensor("encoders", "out/edsr_x3_rs01"))


def test_a_model_with_an_encoder_of_known_size_can_be_saved(keep, tmp_path):
    state = filled(edsr(4, 24) | imnet(24 * 9 + 4, 8, 3))
    model = load_official(keep(layout("liif", {"encoder_spec": BASELINE}, state)))
    save_weights(model, tmp_path / "ours.safetensors", {})
    again = load_weights(tmp_path / "ours.safetensors")
    assert again.config == model.config and again.config["encoder"] == "edsr-tiny"
    near(again.state_dict(), model.state_dict(), 0)


def test_upscale_and_evaluate_take_authors_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(picture(40, 44)).save("a.png")
    words = ["--model", str(CHECKPOINT)]
    assert main(["evaluate", *words, "--data", ".", "--scales=2", "--json=rows"]) == 0
    assert json.loads((tmp_path / "rows").read_text())[0]["method"] == "liif"
    assert main(["upscale", "a.png", "b.png", "--scale", "1.5", *words]) == 0
    assert Image.open("b.png").size == (66, 60)


def refusal(path) -> str:
    """The message, which is one line that names the file."""
    with pytest.raises(UserError) as caught:
        load_official(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message and len(message) < 500
    return message


class Program:
    """What pickles as a call that makes the folder "mark"."""

    def __reduce__(self):
        return os.mkdir, ("mark",)


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_program_in_a_pickle_is_refused_and_not_run(is_zip, keep, monkeypatch):
    content = torch.load(CHECKPOINT, weights_only=True)
    content["model"]["args"]["imnet_spec"] = Program()
    path = keep(content, _use_new_zipfile_serialization=is_zip)
    monkeypatch.chdir(path.parent)
    assert "a program" in refusal(path) and not os.path.exists("mark")
    torch.load(path, weights_only=False)
    assert os.path.exists("mark")  # it would have been run


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_refused(seed, tmp_path):
    """It was cut, or a thousand bytes of it are other ones: no error but ours."""
    rng, path = np.random.default_rng(seed), tmp_path / "authors.pth"
    whole = np.frombuffer(CHECKPOINT.read_bytes(), np.uint8).copy()
    path.write_bytes(whole[: int(rng.random() * len(whole))].tobytes())
    assert "download it again" in refusal(path)
    whole[rng.integers(0, len(whole), 1000)] = rng.integers(0, 256, 1000)
    path.write_bytes(whole.tobytes())
    refusal(path)


OTHERS = [
    (b"", "download it again"),
    (b"\n <!DOCTYPE html><title>Quota exceeded", "a web page"),
    ({"conv1.weight": torch.zeros(2)}, "no file of LIIF"),
    (torch.zeros(2), "cannot be built"),
    ({"model": {"name": "liif"}}, "no file of LIIF"),
    (layout("ltte", {}, {}), "Did you mean 'lte'"),
    (layout("liif", {"skip": True}, {}), "unknown argument of liif"),
    (layout("liif", {"encoder_spec": spec("rcan")}, {}), "unknown encoder 'rcan'"),
    (layout("lte", {"encoder_spec": spec("swinir")}, {}), "cannot be built"),
    (lightning(4, False, {}), "unknown mode '4'"),
    (lightning(3, False, {}, arch="metasr"), "choose from diinn, imsisr"),
]


@pytest.mark.parametrize("content, words", OTHERS)
def test_other_files_are_refused(content, words, keep, tmp_path):
    path = tmp_path / "authors.pth"
    path.write_bytes(content) if isinstance(content, bytes) else keep(content)
    assert words in refusal(path)


UNFIT = [
    ({"imnet.layers.0.bias": None}, "mlp.layers.0.bias"),
    ({"x": torch.ones(1)}, "Unexpected"),
    ({"imnet.layers.2.bias": torch.ones(9)}, "size mismatch"),
]


@pytest.mark.parametrize("change, words", UNFIT)
def test_tensors_that_do_not_fit_are_refused(change, words, keep):
    content = torch.load(CHECKPOINT, weights_only=True)
    state = content["model"]["sd"] | change
    content["model"]["sd"] = {k: x for k, x in state.items() if x is not None}
    assert words in refusal(keep(content))
