"""Train the reader of the digits' exam, in a few minutes.

    python studies/reader.py --out data/reader.safetensors

A small classifier, trained on drawn digits, a little blurred or noisy in every step.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save
from torch import Tensor

from asr_course.digits import draw_character
from asr_course.images import resize, write_whole
from asr_course.lessons.exam import SIDE, CloseLook, held_out
from asr_course.schedule import Schedule


def draw_many(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Drawn digits: (count, 3, 32, 32) uint8, and labels (count,)."""
    found = [draw_character(seed, index) for index in range(count)]
    pictures = np.stack([resize(pixels, (SIDE, SIDE)) for pixels, _ in found])
    labels = torch.tensor([label for _, label in found])
    return torch.from_numpy(pictures).movedim(-1, 1), labels


def blur_and_noise(x: Tensor, rng: torch.Generator) -> Tensor:
    """(B, 3, 32, 32) uint8, a little blurred or noisy, for the close look."""
    side = int(torch.randint(16, 49, (), generator=rng))
    x = F.interpolate(x / 255, (side, side), mode="bicubic", antialias=True)
    noise = torch.rand((), generator=rng) * torch.randn(x.shape, generator=rng)
    return x + 0.06 * noise


def train_reader(count: int = 60_000, steps: int = 1500, seed: int = 500) -> CloseLook:
    """Draw `count` digits and train on them with Adam and cross-entropy, batch 256."""
    x, labels = draw_many(count, seed)
    torch.manual_seed(0)
    reader, rng = CloseLook(), torch.Generator().manual_seed(0)
    schedule = Schedule(steps, warmup=0)
    optimizer = torch.optim.Adam(reader.parameters(), schedule.rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        batch = torch.randint(len(labels), (256,), generator=rng)
        found = reader(blur_and_noise(x[batch], rng))
        loss = F.cross_entropy(found, labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return reader.eval()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train the exam's reader.")
    parser.add_argument("--out", type=Path, required=True, help="a .safetensors file")
    parser.add_argument("--count", type=int, default=60_000, help="digits to draw")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args(arguments)
    reader = train_reader(args.count, args.steps)
    about = {"command": "python studies/reader.py"}
    write_whole(args.out, save(reader.state_dict(), about))
    exam = held_out(min(2000, args.count))
    right = (reader.read(exam.hr) == exam.labels).float().mean()
    print(f"of {len(exam)} held-out digits it reads {right:.2%} right")


if __name__ == "__main__":
    main()
