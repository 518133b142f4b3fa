"""Weights files: there and back, and files that do not fit.

A class of one's own: test_learner.py.
"""

import json
import os

import pytest
import torch
from helpers import near, tiny
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import asr_course.weights
from asr_course import build, load_pretrained
from asr_course.encoders import EDSR
from asr_course.errors import UserError
from asr_course.weights import (
    find_weights,
    load_model,
    load_weights,
    read_card,
    save_weights,
    shipped,
)


@pytest.mark.parametrize(
    "arguments, options",
    [
        (("liif", "tiny"), {}),
        (("liif", "tiny", "edsr-laptop"), {"hidden": (8, 9, 10), "skip": False}),
        (("diif", "tiny"), {"slicing": "rows"}),
        (("idm", "tiny"), {"widths": (16, 24), "attention": (1,)}),
    ],
)
def test_round_trip(tmp_path, arguments, options):
    model, path = build(*arguments, **options), tmp_path / "new" / "a.safetensors"
    save_weights(model, path, {"steps": 240, "scores": {"x2": 33.0}})
    loaded = load_weights(path)
    near(loaded.state_dict(), model.state_dict(), 0)
    assert (loaded.options, loaded.config) == (model.options, model.config)
    assert not loaded.training
    card = read_card(path)
    assert (card["steps"], card["scores"]) == (240, {"x2": 33.0})
    assert os.listdir(path.parent) == ["a.safetensors"]


def test_an_encoder_that_has_no_name_is_refused(tmp_path):
    model = tiny()
    model.encoder = EDSR(1, 8)
    with pytest.raises(UserError, match="ENCODERS"):
        save_weights(model, tmp_path / "mine.safetensors", {})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_are_not_written(weights, value):
    model, before = tiny(), weights.read_bytes()
    model.encoder.head.bias.data[0] = value
    with pytest.raises(UserError, match="encoder.head.bias holds NaN"):
        save_weights(model, weights, {})
    assert weights.read_bytes() == before


def test_names_and_files(weights, monkeypatch):
    monkeypatch.setattr(asr_course.weights, "WEIGHTS", weights.parent)
    expected = load_weights(weights).state_dict()
    assert list(shipped()) == ["tiny"]
    for known in ("tiny", str(weights), weights):
        assert find_weights(known) == weights
        near(load_model(known).state_dict(), expected, 0)
    near(load_pretrained("tiny").state_dict(), expected, 0)
    for unknown in ("tinny", "tiny.pt", ""):
        with pytest.raises(UserError, match="shipped weights.*choose from tiny"):
            find_weights(unknown)


def rewrite(path, tensors: dict, **metadata) -> None:
    """Change tensors (None: leave it out) and metadata of a weights file."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata() | metadata
    state = {k: x for k, x in (load_file(path) | tensors).items() if x is not None}
    save_file(state, path, metadata)


def test_a_damaged_description_is_reported(weights):
    rewrite(weights, {}, config="not JSON")
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(weights)


@pytest.mark.parametrize("content", [b"", b"hello", None])
def test_files_that_cannot_be_read(weights, content):
    """Empty, text, cut, of others, missing."""
    cut = weights.read_bytes()[:-100]
    weights.write_bytes(cut if content is None else content)
    with pytest.raises(UserError, match=r"tiny\.safetensors cannot be read"):
        load_weights(weights)
    save_file({"x": torch.zeros(2)}, weights)
    with pytest.raises(UserError, match="which model"):
        load_weights(weights)
    weights.unlink()
    with pytest.raises(UserError, match="cannot be read"):
        load_weights(weights)


@pytest.mark.parametrize(
    "tensors, config, words",
    [
        ({"mlp.layers.0.bias": None}, {}, "Missing.*mlp.layers.0.bias"),
        ({"x": torch.zeros(1)}, {}, "Unexpected.*x"),
        ({"mlp.layers.0.bias": torch.zeros(47)}, {}, "mismatch for mlp.layers.0.bias"),
        ({}, {"name": "lif"}, "class 'lif'"),
        ({}, {"encoder": "rdm"}, "Did you mean 'rdn'"),
        ({}, {"options": {"skp": True}}, "does not fit LIIF: .*skp"),
    ],
)
def test_what_does_not_fit_is_refused(weights, tensors, config, words):
    config = read_card(weights)["config"] | config
    rewrite(weights, tensors, config=json.dumps(config))
    with pytest.raises(UserError, match=words) as caught:
        load_weights(weights)
    assert "\n" not in str(caught.value)
