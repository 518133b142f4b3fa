"""A class that a learner wrote is trained, saved, loaded, scored and looked at.

One is taken from notebook 1, cell by cell as a learner runs it; one is written here.
"""

import ast
import signal
from dataclasses import dataclass

import nbformat
import numpy as np
import pytest
import torch
from helpers import ROOT, near, picture
from PIL import Image
from torch import nn

import asr_course as asr
from asr_course.models.liif import LIIFOptions


@dataclass(frozen=True)
class MineOptions:
    """What the class below can be told."""

    widths: tuple[int, ...] = (8,)
    skip: bool = True


class Mine(asr.ImplicitModel):
    """An MLP on interpolated latent codes, and on nothing else."""

    Options = MineOptions

    def __init__(self, encoder, options):
        super().__init__(encoder, options)
        self.mlp = asr.MLP(encoder.channels, options.widths, outputs=3)

    def predict(self, features, queries, cell):
        return self.mlp(asr.bilinear(features.grid, queries))


def liif_of_the_notebook() -> type:
    """The class of notebook 1: its imports, the cells that define, the plain class."""
    notebook = nbformat.read(ROOT / "notebooks" / "01_liif.ipynb", as_version=4)
    names = {"__name__": "notebook"}
    for cell in notebook.cells:
        if cell.cell_type != "code" or cell.source.startswith("%"):
            continue
        tree = ast.parse(cell.source)
        taught = "defines" in cell.metadata.get("asr", {})
        if not (taught or "class PlainLIIF" in cell.source):
            kept = (ast.Import, ast.ImportFrom)
            tree.body = [node for node in tree.body if isinstance(node, kept)]
        exec(compile(tree, "01_liif.ipynb", "exec"), names)
    return names["PlainLIIF"]


def made(cls: type) -> nn.Module:
    """A small model of a class, the same each time."""
    torch.manual_seed(0)
    options = MineOptions() if cls is Mine else LIIFOptions(hidden=(8,), skip=True)
    return cls(asr.ENCODERS["edsr-tiny"](), options)


def trained(cls: type, **how):
    """A run of a few steps on generated pictures."""
    images, recipe = asr.Procedural(2, size=64), asr.Recipe(2, patch=8, queries=64)
    schedule = asr.Schedule(10)
    return asr.train(made(cls), images, recipe, schedule, device="cpu", **how)


@pytest.fixture(scope="module", params=["notebook 1", "written here"])
def cls(request) -> type:
    return Mine if request.param == "written here" else liif_of_the_notebook()


@pytest.fixture(scope="module")
def model(cls) -> nn.Module:
    """Trained for ten steps."""
    run = trained(cls)
    assert run.steps == 10 and np.isfinite(run.losses).all()
    return run.model.eval()


def test_it_is_saved_and_loaded(cls, model, tmp_path):
    asr.save_weights(model, tmp_path / "mine.safetensors", {"steps": 10})
    again = asr.load_weights(tmp_path / "mine.safetensors", cls)
    assert type(again) is cls and again.options == model.options
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


def test_a_class_that_is_unknown_has_to_be_given(tmp_path):
    asr.save_weights(made(Mine), tmp_path / "mine.safetensors", {})
    with pytest.raises(asr.UserError, match="cls=Mine"):
        asr.load_weights(tmp_path / "mine.safetensors")


def test_it_is_scored(model):
    (row,) = asr.evaluate(model, {"photo": picture(48, 40)}, [2])
    assert row["images"] == 1 and 5 < row["psnr_y"] < 60


@torch.no_grad()
def test_the_plain_class_gives_the_numbers_of_the_package():
    """With its weights, which have the same names: on a grid and where scattered."""
    cls, options = liif_of_the_notebook(), LIIFOptions(hidden=(8, 8))
    package = asr.METHODS["liif"](asr.ENCODERS["edsr-tiny"](), options)
    plain = cls(asr.ENCODERS["edsr-tiny"](), options)
    plain.load_state_dict(package.state_dict())
    lr, cell = torch.rand(2, 3, 7, 9), torch.tensor([[0.1, 0.2], [0.05, 0.03]])
    scattered = 2 * torch.rand(2, 40, 1, 2) - 1
    for coord in (asr.make_coord((19, 31)).expand(2, -1, -1, -1), scattered):
        near(plain(lr, coord, cell), package(lr, coord, cell), 1e-5)
    assert plain.radius == package.radius


@torch.no_grad()
def test_it_enlarges_a_picture(model):
    pixels, size = picture(9, 7), (23, 18)
    result = np.asarray(asr.upscale(model, Image.fromarray(pixels), 2.5))
    grid = asr.make_coord(size)[None], asr.make_cell(size)[None]
    expected = model(asr.to_tensor(pixels), *grid)[0].clamp(0, 1) * 255
    near(torch.tensor(result), expected.movedim(0, -1), 0.501)


def test_it_is_explored(model):
    explorer = asr.ScaleExplorer(model, picture(64, 64))
    view = explorer.render(2.5)
    assert explorer.error is None and view is not None


def test_a_stopped_run_goes_on(cls, tmp_path):
    """With a model of the same name and options, to the same weights."""

    def stop(step, losses):
        if step == 6:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="saved"):
        trained(cls, out=tmp_path, on_step=stop)
    resumed = trained(cls, out=tmp_path, resume=True)
    assert resumed.steps == 10
    expected = trained(cls).model.state_dict()
    for key, value in resumed.model.state_dict().items():
        assert torch.equal(value, expected[key]), key
