"""One thread, one seed, and files that several tests start from."""

import pytest
import torch
from helpers import picture, tiny
from PIL import Image

from asr_course import build
from asr_course.weights import save_weights

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def seeded():
    """Random weights are the same in every run and in every order of tests."""
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def liif():
    """A tiny LIIF whose output differs a little from its skip."""
    torch.manual_seed(0)
    model = build("liif", "tiny").eval()
    torch.nn.init.normal_(model.mlp.layers[-1].weight, std=0.05)
    return model


@pytest.fixture
def photo(tmp_path):
    """A colour image of 12 rows and 17 columns on disk."""
    path = tmp_path / "photo.png"
    Image.fromarray(picture(12, 17)).save(path)
    return path


@pytest.fixture
def weights(tmp_path):
    """A weights file of a tiny LIIF."""
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny(), path, {"steps": 0})
    return path
