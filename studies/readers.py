"""Train the two readers that score the digits' exam, in about 5 minutes.

    python studies/readers.py --out data/readers.safetensors

Both are small classifiers. They are trained on drawn digits, with fresh noise in every
step.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from exam import laws
from safetensors.torch import save
from torch import Tensor, nn

from asr_course.digits import NOISE, PATCH, draw_character
from asr_course.images import resize, write_whole
from asr_course.lessons.exam import SIDE, CloseLook, Glance, Readers, held_out
from asr_course.schedule import Schedule


def draw_many(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Drawn digits: (count, 3, 32, 32) and (count, 3, 4, 4) uint8, labels (count,)."""
    large, small, labels = [], [], []
    for index in range(count):
        pixels, label = draw_character(seed, index)
        large.append(resize(pixels, (SIDE, SIDE)))
        small.append(resize(pixels, (PATCH, PATCH)))
        labels.append(label)
    stack = [torch.from_numpy(np.stack(x)).movedim(-1, 1) for x in (large, small)]
    return *stack, torch.tensor(labels)


def blur_and_noise(x: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, 32, 32) uint8, a little blurred or noisy, for the close look."""
    side = int(torch.randint(16, 49, (), generator=rng))
    x = F.interpolate(x / 255, (side, side), mode="bicubic", antialias=True)
    noise = torch.rand((), generator=rng) * torch.randn(x.shape, generator=rng)
    return x + 0.06 * noise


def input_noise(x: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, 4, 4) uint8 with the noise that `degrade` adds, in [0, 1]."""
    x = x + NOISE * torch.randn(x.shape, generator=rng)
    return x.round().clamp(0, 255) / 255


def train_reader(
    reader: nn.Module, x: Tensor, labels: Tensor, augment: Callable, steps: int
) -> nn.Module:
    """Train a reader in place with Adam and cross-entropy, batch 256."""
    rng = torch.Generator().manual_seed(0)
    schedule = Schedule(steps, warmup=0)
    optimizer = torch.optim.Adam(reader.parameters(), schedule.rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        batch = torch.randint(len(labels), (256,), generator=rng)
        loss = F.cross_entropy(reader(augment(x[batch], rng)), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reader.eval()


def train_readers(count: int = 60_000, steps=(8000, 1500), seed: int = 500) -> Readers:
    """Draw `count` digits and train a glance and a close look on them."""
    large, small, labels = draw_many(count, seed)
    torch.manual_seed(0)
    glance = train_reader(Glance(), small, labels, input_noise, steps[0])
    look = train_reader(CloseLook(), large, labels, blur_and_noise, steps[1])
    return Readers(glance, look)


def save_readers(readers: Readers, path: Path, about: dict[str, str]) -> None:
    """Write both to one .safetensors file, whole or not at all."""
    pair = nn.ModuleDict({"glance": readers.at_a_glance, "look": readers.close_look})
    write_whole(path, save(pair.state_dict(), about))


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the exam's two readers.")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--count", type=int, default=60_000, help="digits to draw")
    parser.add_argument("--steps", type=int, nargs=2, default=(8000, 1500))
    args = parser.parse_args(arguments)
    readers = train_readers(args.count, args.steps)
    save_readers(readers, args.out, {"command": "python studies/readers.py"})
    for name, value in laws(held_out(min(2000, args.count)), readers).items():
        print(f"{name}: {value:.4g}")


if __name__ == "__main__":
    main()
