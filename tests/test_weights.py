"""Weights files: there and back, and what is said about files that do not fit."""

import json
import os

import pytest
import torch
from helpers import tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import asr_course.weights
from asr_course import build, load_pretrained
from asr_course.errors import UserError
from asr_course.states import load_state
from asr_course.weights import (
    find_weights,
    load_model,
    load_weights,
    read_card,
    save_weights,
    shipped,
)


def assert_same(found, expected) -> None:
    """Equal bit for bit."""
    state = expected.state_dict()
    assert found.state_dict().keys() == state.keys()
    for key, value in found.state_dict().items():
        assert torch.equal(value, state[key]), key


# There and back


@pytest.mark.parametrize(
    "arguments, options",
    [
        (("tiny",), {}),
        (("tiny", "edsr-laptop"), {"hidden": (8, 9, 10), "skip": False}),
        (("laptop", "edsr-tiny"), {"local_ensemble": False, "cell_decode": False}),
        (("paper", "edsr-tiny"), {"feat_unfold": False, "hidden": ()}),
    ],
)
def test_round_trip(tmp_path, arguments, options):
    model = build("liif", *arguments, **options)
    path = tmp_path / "new" / "model.safetensors"
    save_weights(model, path, {})
    loaded = load_weights(path)
    assert_same(loaded, model)
    assert loaded.options == model.options
    assert isinstance(loaded.options.hidden, tuple)
    assert loaded.config == model.config
    assert not loaded.training
    assert os.listdir(path.parent) == ["model.safetensors"]


def test_card_is_kept(tmp_path):
    card = {"data": "24 generated pictures", "steps": 240, "scores": {"x2": 33.0}}
    model = tiny(hidden=(8, 8))
    save_weights(model, tmp_path / "a.safetensors", card)
    found = read_card(tmp_path / "a.safetensors")
    config = found.pop("config")
    assert found == card
    assert config == json.loads(json.dumps(model.config))
    assert config["options"]["hidden"] == [8, 8]


def test_saving_replaces_whole_files(tmp_path):
    path = tmp_path / "a.safetensors"
    first, second = tiny(), tiny(hidden=(8,))
    save_weights(first, path, {"steps": 1})
    save_weights(second, path, {"steps": 2})
    assert_same(load_weights(path), second)
    assert read_card(path)["steps"] == 2


def test_load_model_takes_names_and_files(weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    expected = load_weights(weights)
    assert list(shipped()) == ["tiny"]
    for model in (
        load_model("tiny"),
        load_model(str(weights)),
        load_pretrained("tiny"),
    ):
        assert_same(model, expected)


def test_unknown_shipped_weights(weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    with pytest.raises(UserError, match="choose from tiny.*Did you mean 'tiny'"):
        load_pretrained("tinny")


def test_find_weights_takes_names_and_files(weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    for given in ("tiny", str(weights), weights):
        assert find_weights(given) == weights


def test_find_weights_leaves_it_to_the_reader_whether_a_file_is_there(tmp_path):
    path = find_weights("none.safetensors")
    assert str(path) == "none.safetensors"
    with pytest.raises(UserError, match="no such weights file"):
        read_card(path)


@pytest.mark.parametrize("name", ["tinny", "tiny.pt", "tiny.safetensor", ""])
def test_find_weights_lists_those_there_are(name, weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    with pytest.raises(UserError, match="unknown shipped weights .*choose from tiny"):
        find_weights(name)


@pytest.mark.parametrize("path", shipped().values(), ids=lambda path: path.stem)
def test_shipped_weights_load(path):
    """Whatever lies in data/weights is a trained model of finite numbers."""
    model = load_weights(path)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert all(value.any() for value in model.state_dict().values())
    assert read_card(path)["steps"] > 0


# Files that do not fit


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"no such weights file: .*a\.safetensors"):
        load_weights(tmp_path / "a.safetensors")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00" * 100, None])
def test_not_a_safetensors_file(tmp_path, weights, content):
    """Empty, text, zeros, and a file that was cut."""
    path = tmp_path / "a.safetensors"
    path.write_bytes(weights.read_bytes()[:-100] if content is None else content)
    with pytest.raises(UserError, match=r"a\.safetensors is no readable"):
        load_weights(path)


def test_folder_instead_of_file(tmp_path):
    with pytest.raises(UserError, match="is a folder; a .safetensors file was"):
        load_weights(tmp_path)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_file_of_someone_else(tmp_path, metadata):
    path = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(2)}, path, metadata)
    for read in (load_weights, read_card):
        with pytest.raises(UserError, match="not say which model.*not written by"):
            read(path)


def rewrite(path, change) -> None:
    """Change the tensors of a weights file and keep its metadata."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def misshape(tensors):
    tensors["mlp.layers.0.bias"] = torch.zeros(47)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda t: t.pop("mlp.layers.0.bias"), "missing mlp.layers.0.bias"),
        (lambda t: t.update(x=torch.zeros(1)), "unexpected x"),
        (misshape, r"mlp.layers.0.bias is \(47,\), expected \(48,\)"),
    ],
)
def test_tensors_that_do_not_fit(weights, change, words):
    rewrite(weights, change)
    with pytest.raises(UserError, match=rf"tiny\.safetensors .* 1 faults: {words}"):
        load_weights(weights)


def test_all_faults_are_counted_and_three_are_shown():
    model = tiny()
    state = {f"other.{key}": value for key, value in model.state_dict().items()}
    count = 2 * len(state)
    with pytest.raises(UserError, match=f"{count} faults") as caught:
        load_state(model, state, "somewhere")
    assert str(caught.value).count("missing") + str(caught.value).count("unexp") == 3


def test_a_misfit_leaves_the_model_alone():
    model, before = tiny(), tiny()
    before.load_state_dict(model.state_dict())
    state = {**tiny(hidden=(48, 48)).state_dict(), "mlp.layers.0.bias": torch.ones(3)}
    with pytest.raises(UserError):
        load_state(model, state, "somewhere")
    assert_same(model, before)


@pytest.mark.parametrize(
    "config, words",
    [
        ({"name": "lif", "encoder": "rdn", "options": {}}, "Did you mean 'liif'"),
        ({"name": "liif", "encoder": "rdm", "options": {}}, "Did you mean 'rdn'"),
        (
            {"name": "liif", "encoder": "edsr-tiny", "options": {"skp": True}},
            "Did you mean 'skip'",
        ),
    ],
)
def test_config_of_another_version(tmp_path, config, words):
    path = tmp_path / "a.safetensors"
    metadata = {"config": json.dumps(config), "card": "{}"}
    save_file({"x": torch.zeros(2)}, path, metadata)
    with pytest.raises(UserError, match=words):
        load_weights(path)
