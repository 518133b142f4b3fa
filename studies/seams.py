"""Seams: where the output of a model jumps.

python studies/seams.py --model liif diinn diif --json data/results/seams.json
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import nn

from asr_course.devices import pick_device
from asr_course.images import resize, sample_crops, to_tensor
from asr_course.metrics import seam
from asr_course.records import save_record
from asr_course.render import render
from asr_course.weights import load_model


@torch.inference_mode()
def seams(model: nn.Module, scale: int, side: int = 12) -> dict[str, float]:
    """Steps at the borders and centres of input pixels over the steps elsewhere.

    Steps are mean differences between rows and between columns, on inputs of side x
    side pixels from four bundled photographs. A function without jumps comes near 1 as
    the scale grows.
    """
    device = next(model.parameters()).device
    border, centre = [], []
    for photo in sample_crops().values():
        whole = resize(photo, (64, 64))
        first = (64 - side) // 2
        lr = whole[first : first + side, first : first + side]
        sr = render(model, to_tensor(lr).to(device), (side * scale, side * scale)).cpu()
        for x in (sr, sr.transpose(1, 2)):
            border.append(seam(x, scale))
            centre.append(seam(x, scale, where=0.5))
    return {"border": float(np.mean(border)), "centre": float(np.mean(centre))}


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Where outputs jump.")
    parser.add_argument("--model", nargs="+", default=["liif"], help="names or files")
    parser.add_argument("--scales", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    if any(scale % 2 or not 2 <= scale <= 64 for scale in args.scales):
        parser.error("--scales are even numbers from 2 to 64")
    device = pick_device(args.device)
    models = {name: load_model(name).to(device) for name in args.model}
    for name, model in models.items():
        if model.is_generative:
            parser.error(f"{name} is generative: its output is not one function")
    print("model          scale   border   centre")
    rows = []
    for name, model in models.items():
        for scale in args.scales:
            row = {"model": Path(name).name, "scale": scale, **seams(model, scale)}
            print(
                f"{row['model']:14} {scale:5} {row['border']:8.2f} {row['centre']:8.2f}"
            )
            rows.append(row)
    if args.json:
        save_record(args.json, rows)


if __name__ == "__main__":
    main()
