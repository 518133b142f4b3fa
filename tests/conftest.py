"""One thread, one seed, and the files that several tests start from."""

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
    """A tiny LIIF whose answer is not just the skip, but not far from it."""
    torch.manual_seed(0)
    made = build("liif", "tiny").eval()
    torch.nn.init.normal_(made.mlp.layers[-1].weight, std=0.05)
    return made


@pytest.fixture
def photo(tmp_path):
    """A colour picture of 12 rows and 17 columns on disk."""
    path = tmp_path / "photo.png"
    Image.fromarray(picture(12, 17)).save(path)
    return path


@pytest.fixture
def weights(tmp_path):
    """A weights file of a tiny LIIF."""
    path = tmp_path / "tiny.safetensors"
    save_weights(tiny(), path, {"steps": 0})
    return path
