"""What several test files need: golden numbers, images, models with random weights."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from asr_course import build

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    """All arrays of one golden file."""
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def golden_tensor(name: str, key: str) -> Tensor:
    """A copy of one array of a golden file as a tensor."""
    return torch.tensor(golden(name)[key])


def golden_state(name: str, prefix: str) -> dict[str, Tensor]:
    """The weights that a golden file keeps under `prefix`, without the prefix."""
    return {
        key.removeprefix(prefix): torch.tensor(value)
        for key, value in golden(name).items()
        if key.startswith(prefix)
    }


def near(a, b, atol=1e-5) -> None:
    """Equal up to `atol`, an absolute tolerance."""
    torch.testing.assert_close(a, b, rtol=0, atol=atol, check_dtype=False)


def awake(model: nn.Module) -> nn.Module:
    """`model` with random weights where all are zero: `skip` zeroes the last layer."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.3)
    return model.eval()


def tiny(**options) -> nn.Module:
    """A LIIF of size tiny whose output differs from its input."""
    return awake(build("liif", "tiny", **options))


def picture(rows: int, cols: int, seed: int = 0) -> np.ndarray:
    """A smooth image with some noise: (rows, cols, 3) uint8."""
    rng = np.random.default_rng(seed)
    r, c = np.mgrid[:rows, :cols] / 9
    waves = [np.sin(r + k) + np.cos(c * (k + 1)) for k in range(3)]
    pixels = 128 + 45 * np.stack(waves, axis=-1) + rng.normal(0, 8, (rows, cols, 3))
    return pixels.clip(0, 255).astype(np.uint8)
