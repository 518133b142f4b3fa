"""What all models share: look-ups, linear layers on the grid, encode and decode."""

import pytest
import torch
import torch.nn.functional as F
from helpers import awake, near, tiny
from torch import nn
from torch.export import Dim, export

from asr_course import METHODS, build
from asr_course.coords import Queries, make_cell, make_coord, pixel_centres, split_axes
from asr_course.layers import (
    MLP,
    Features,
    ImplicitModel,
    bilinear,
    count_weights,
    look_up,
    on_grid,
    relative_cell,
    unfold,
)

REGRESSION = [name for name, cls in METHODS.items() if not cls.is_generative]
each_method = pytest.mark.parametrize("name", REGRESSION)


def test_bilinear_equals_torch_s():
    """At places anywhere, beyond the outermost centres and the border, too."""
    grid, coord = torch.rand(2, 4, 5, 3), torch.rand(2, 6, 7, 2) * 2.2 - 1.1
    expected = F.grid_sample(
        grid.movedim(-1, 1), coord.flip(-1), padding_mode="border", align_corners=False
    )
    inside = coord.abs().amax(-1) <= 1
    near(bilinear(grid, coord)[inside], expected.movedim(1, -1)[inside], 1e-6)


def test_look_up_picks_rows_and_columns():
    grid = torch.rand(2, 4, 5, 3)
    rows, cols = torch.tensor([[[3], [0]]]), torch.tensor([[[4, 1, 2]]])
    expected = torch.stack([picture[[3, 0]][:, [4, 1, 2]] for picture in grid])
    assert torch.equal(look_up(grid, rows, cols), expected)
    one = look_up(
        grid, torch.tensor([2, 1]), torch.tensor([0, 4]), torch.tensor([1, 0])
    )
    assert torch.equal(one, torch.stack([grid[1, 2, 0], grid[0, 1, 4]]))


def test_a_linear_layer_on_the_grid_is_one_on_every_code():
    latent, linear = torch.rand(2, 4, 6, 5), nn.Linear(9 * 4, 7)
    expected = linear(unfold(latent).movedim(1, -1))
    near(on_grid(latent, linear.weight, linear.bias), expected, 1e-6)
    weight = torch.rand(7, 4)
    near(on_grid(latent, weight, kernel=1), latent.movedim(1, -1) @ weight.T, 1e-6)


def test_an_mlp_is_linear_layers_with_relu_between():
    mlp, x = MLP(3, (5, 4), 2), torch.randn(6, 3)
    assert [layer.out_features for layer in mlp.layers] == [5, 4, 2]
    expected = x
    for k, layer in enumerate(mlp.layers):
        expected = F.linear(expected.relu() if k else x, layer.weight, layer.bias)
    near(mlp(x), expected, 1e-6)


def test_weights_are_counted_without_biases():
    assert count_weights(nn.Linear(3, 5), nn.Conv2d(2, 4, 3)) == 15 + 72


def test_relative_cell_is_two_over_the_scale():
    features = Features(torch.zeros(2, 3, 4, 6), torch.zeros(2, 1, 4, 6), None)
    cell = torch.stack([make_cell((8, 30)), make_cell((4, 24))])
    near(relative_cell(cell, features), torch.tensor([[1, 0.4], [2, 0.5]]), 1e-6)


def test_a_model_needs_a_predict():
    model = ImplicitModel(tiny().encoder, tiny().options)
    assert model.config["name"] == "ImplicitModel"
    features = model.encode(torch.rand(1, 3, 4, 5))
    assert torch.equal(features.grid, features.latent.permute(0, 2, 3, 1))
    with pytest.raises(NotImplementedError, match="ImplicitModel"):
        model(torch.zeros(1, 3, 4, 4), torch.zeros(1, 5, 1, 2), torch.zeros(1, 2))


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 8, 8, 3)])
def test_encode_refuses_other_shapes(shape):
    with pytest.raises(ValueError, match=r"\(B, 3, H, W\)"):
        tiny().encode(torch.zeros(shape))


@pytest.mark.parametrize(
    "coord, cell",
    [
        ((2, 5, 2), (2, 2)),
        ((1, 5, 1, 2), (2, 2)),
        ((2, 5, 1, 3), (2, 2)),
        ((2, 5, 1, 2), (2,)),
        ((2, 5, 1, 2), (1, 2)),
    ],
)
def test_decode_refuses_other_shapes(coord, cell):
    model = tiny()
    features = model.encode(torch.zeros(2, 3, 8, 8))
    with pytest.raises(ValueError, match="coord must"):
        model.decode(features, torch.zeros(coord), torch.zeros(cell))


@torch.no_grad()
@each_method
def test_queries_as_axes_and_as_points_give_the_same(name):
    """On a grid, and scattered; `decode` splits a tensor itself."""
    model = awake(build(name, "tiny"))
    features, cell = model.encode(torch.rand(2, 3, 6, 5)), make_cell((17, 13))
    cell = cell.expand(2, 2)
    grid = make_coord((17, 13)).expand(2, -1, -1, -1)
    points = Queries(*grid.unbind(-1))  # (B, h, w) twice
    assert split_axes(grid).rows.shape != points.rows.shape
    expected = model.decode(features, grid, cell)
    assert torch.equal(model.decode(features, split_axes(grid), cell), expected)
    near(model.decode(features, points, cell), expected)


class Decoder(nn.Module):
    """A model's decoder with nothing but tensors as its inputs."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, lr, latent, grid, rows, cols, cell):
        return self.model.decode(Features(lr, latent, grid), Queries(rows, cols), cell)


@torch.no_grad()
@each_method
def test_decoders_export_with_any_size(name):
    """No shape is fixed: exported at 20 x 24, run at 40 x 33."""
    model = awake(build(name, "tiny"))

    def inputs(H, W, h, w):
        lr, latent, grid, _ = model.encode(torch.rand(1, 3, H, W))
        rows, cols = pixel_centres(h)[None, :, None], pixel_centres(w)[None, None]
        return lr, latent, grid, rows, cols, make_cell((h, w))[None]

    H, W, h, w = (Dim(letter, min=2, max=4096) for letter in "HWhw")
    corners = name in ("diif", "dlte")  # their grid has a row and a column more
    grid = {1: H + 1, 2: W + 1} if corners else {1: H, 2: W}
    sizes = ({2: H, 3: W}, {2: H, 3: W}, grid, {1: h}, {2: w}, None)
    exported = export(
        Decoder(model), inputs(20, 24, 41, 50), dynamic_shapes=sizes, strict=False
    )
    other = inputs(40, 33, 70, 51)
    near(exported.module()(*other), Decoder(model)(*other))
