"""Two readers of digits, which say how open a question is and what the answer was.

A glance sees the low-resolution picture alone and says p(digit | low resolution): what
can be known. A close look sees a picture of any size and says which digit it shows.
Both are small classifiers, trained on tens of thousands of drawn digits with fresh
noise at every step, so they learn no picture by heart.

Letters: B batch, h w rows and columns.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from asr_course.digits import DIGITS, NOISE, PATCH, draw_character
from asr_course.encoders import conv
from asr_course.images import atomic, resize
from asr_course.training import Schedule

READERS = Path(__file__).resolve().parent.parent / "data" / "readers.safetensors"
SIDE = 32  # rows and columns that a close look resizes to


class Glance(nn.Sequential):
    """(B, 3, 4, 4) in [0, 1] -> (B, 10) logits."""

    def __init__(self, hidden: int = 384):
        super().__init__(
            nn.Flatten(),
            nn.Linear(3 * PATCH * PATCH, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, len(DIGITS)),
        )


class CloseLook(nn.Module):
    """(B, 3, h, w) in [0, 1] -> (B, 10) logits; h and w may be anything."""

    def __init__(self, width: int = 16):
        super().__init__()
        widths = (3, width, 2 * width, 4 * width)
        self.convs = nn.ModuleList(map(conv, widths, widths[1:]))
        self.last = nn.Linear(widths[-1] * (SIDE // 8) ** 2, len(DIGITS))

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, (SIDE, SIDE), mode="bicubic", antialias=True)
        x = x - x.mean((2, 3), keepdim=True)  # (B, 3, 32, 32)
        for layer in self.convs:
            x = F.max_pool2d(layer(x).relu(), 2)
        return self.last(x.flatten(1))


def draw_many(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Drawn digits: (count, 3, 32, 32) and (count, 3, 4, 4) uint8, and (count,)."""
    large, small, labels = [], [], []
    for index in range(count):
        pixels, label = draw_character(seed, index)
        large.append(resize(pixels, (SIDE, SIDE)))
        small.append(resize(pixels, (PATCH, PATCH)))
        labels.append(label)
    large, small = (
        torch.from_numpy(np.stack(x)).movedim(-1, 1) for x in (large, small)
    )
    return large, small, torch.tensor(labels)


def spoil_little(large: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, 32, 32) uint8 with some blur and noise, so that a reader bears both."""
    side = int(torch.randint(16, 49, (), generator=rng))
    x = F.interpolate(large / 255, (side, side), mode="bicubic", antialias=True)
    return x + 0.06 * torch.rand((), generator=rng) * torch.randn(
        x.shape, generator=rng
    )


def add_noise(small: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, 4, 4) uint8 with the noise that `degrade` adds, in [0, 1]."""
    noisy = small + NOISE * torch.randn(small.shape, generator=rng)
    return noisy.round().clamp(0, 255) / 255


def train_reader(reader: nn.Module, pictures: Tensor, labels: Tensor, spoil, steps):
    """Train a reader in place with Adam and a cross-entropy loss, batch 256."""
    rng = torch.Generator().manual_seed(0)
    schedule = Schedule(steps, warmup=0)
    optimizer = torch.optim.Adam(reader.parameters(), schedule.rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        batch = torch.randint(len(labels), (256,), generator=rng)
        logits = reader(spoil(pictures[batch], rng))
        loss = F.cross_entropy(logits, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reader.eval()


@dataclass
class Readers:
    """Both readers, trained."""

    at_a_glance: Glance
    close_look: CloseLook

    @torch.no_grad()
    def glance(self, lr: Tensor) -> Tensor:
        """p(digit | low resolution): (n, 3, 4, 4) in [0, 1] -> (n, 10)."""
        return self.at_a_glance(lr).softmax(1)

    @torch.no_grad()
    def read(self, pictures: Tensor) -> Tensor:
        """The digits that pictures show: (n, 3, h, w) in [0, 1] -> (n,)."""
        return self.close_look(pictures).argmax(1)


def train_readers(count: int = 60_000, steps=(8000, 1500), seed: int = 500) -> Readers:
    """Draw `count` digits and train a glance and a close look on them."""
    large, small, labels = draw_many(count, seed)
    torch.manual_seed(0)
    glance = train_reader(Glance(), small, labels, add_noise, steps[0])
    look = train_reader(CloseLook(), large, labels, spoil_little, steps[1])
    return Readers(glance, look)


def save_readers(readers: Readers, path: Path, about: dict[str, str]) -> None:
    """Write both to one .safetensors file, whole or not at all."""
    pair = nn.ModuleDict({"glance": readers.at_a_glance, "look": readers.close_look})
    with atomic(path) as temporary:
        save_file(pair.state_dict(), temporary, about)


def load_readers() -> Readers:
    """The readers that come with the course."""
    pair = nn.ModuleDict({"glance": Glance(), "look": CloseLook()}).eval()
    pair.load_state_dict(load_file(READERS))
    return Readers(pair["glance"], pair["look"])
