"""The exam of notebooks 6 and 7 for whole models: digits that the input leaves open.

    python studies/exam.py --model idm liif-digits --steps 25 6 --ancestral \
        --json data/results/idm_exam.json

`asr_course.lessons.exam` explains the exam.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from asr_course.devices import pick_device
from asr_course.digits import DIGITS
from asr_course.lessons.exam import (
    Exam,
    answers,
    chances,
    consistency,
    held_out,
    load_reader,
    sharpness,
    spread,
)
from asr_course.metrics import psnr, ssim
from asr_course.records import save_record
from asr_course.weights import load_model


def frequencies(readings: Tensor) -> Tensor:
    """How often each digit was read: (seeds, n) -> (n, 10), rows sum to 1."""
    return F.one_hot(readings, len(DIGITS)).float().mean(0)


def read_all(sr: Tensor) -> Tensor:
    """The digits that outputs (seeds, n, 3, h, w) show: (seeds, n)."""
    look = load_reader()
    return torch.stack([look.read(x) for x in sr])


def distance(p: Tensor, q: Tensor) -> Tensor:
    """Total variation: half the sum of |p - q|, (n, 10) -> (n,)."""
    return (p - q).abs().sum(1) / 2


def score_answers(
    sr: Tensor, readings: Tensor, exam: Exam, p: Tensor
) -> dict[str, dict]:
    """All figures of merit of outputs (seeds, n, 3, h, w): {name: {mean, std}}.

    readings: of `read_all`. p: p(digit | LR), (n, 10).
    psnr, ssim, mse, sharpness, consistency, accuracy: over seeds. mse_of_mean: of the
    mean over seeds. diversity: standard deviation over seeds, in grey levels. distance:
    of the readings' frequencies from p, over the n inputs, and distance_by_chance,
    what so many draws from p itself would show.
    """

    def mean(measure) -> list[float]:
        """A measure of two pictures, its mean over the digits for every seed."""
        return [np.mean(list(map(measure, x, exam.hr))) for x in sr]

    scores = {
        "psnr": mean(psnr),
        "ssim": mean(ssim),
        "mse": [(x - exam.hr).square().mean().item() for x in sr],
        "sharpness": [sharpness(x, exam.hr) for x in sr],
        "consistency": [consistency(x, exam.lr) for x in sr],
        "accuracy": [(x == exam.labels).float().mean().item() for x in readings],
        "mse_of_mean": [(sr.mean(0) - exam.hr).square().mean().item()],
        "distance": distance(frequencies(readings), p).tolist(),
    }
    if len(sr) > 1:
        draws = torch.Generator().manual_seed(0)
        chance = torch.multinomial(p, len(sr), replacement=True, generator=draws).T
        scores["diversity"] = [255 * sr.std(0).mean().item()]
        scores["distance_by_chance"] = distance(frequencies(chance), p).tolist()
    return {name: spread(values) for name, values in scores.items()}


def calibration(p: Tensor, shown: Tensor, bins: int = 10) -> dict[str, list]:
    """How often digits are shown, against their probability.

    p, shown (n, 10): probability of each digit, and its frequency among the answers.
    Pairs of input and digit are put into bins of p: mean p ("chance"), mean frequency
    ("share") and number ("count") of every bin that is not empty.
    """
    index = (p * bins).long().clamp(max=bins - 1)
    curve = {"chance": [], "share": [], "count": []}
    for bin in index.unique():
        inside = index == bin
        curve["chance"].append(p[inside].mean().item())
        curve["share"].append(shown[inside].mean().item())
        curve["count"].append(int(inside.sum()))
    return curve


def laws(exam: Exam, p: Tensor) -> dict[str, float]:
    """Accuracy and consistency of a perfect sampler, and two numbers to compare."""
    right = load_reader().read(exam.hr) == exam.labels
    return {
        "accuracy": p.square().sum(1).mean().item(),
        "best_guess": (p.argmax(1) == exam.labels).float().mean().item(),
        "consistency": consistency(exam.hr, exam.lr),
        "read_truth": right.float().mean().item(),
    }


def format_scores(rows: list[dict], expected: dict[str, float]) -> str:
    """Scores as lines of text, those of a perfect sampler below."""
    heads = ("psnr", "ssim", "sharpness", "consistency", "accuracy", "distance")
    lines = ["model          steps " + "".join(f"{head:>13}" for head in heads)]
    for row in rows:
        numbers = "".join(f"{row[head]['mean']:13.4g}" for head in heads)
        lines.append(f"{row['model']:14} {row['steps']:5} {numbers}")
    words = ", ".join(f"{key} {value:.4g}" for key, value in expected.items())
    return "\n".join([*lines, f"expected: {words}"])


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Score models by the digits' exam.")
    parser.add_argument("--model", nargs="+", default=["idm", "liif-digits"])
    parser.add_argument("--count", type=int, default=200, help="held-out digits")
    parser.add_argument("--seeds", type=int, default=20, help="answers to each")
    parser.add_argument(
        "--steps", type=int, nargs="+", default=[25], help="of sampling"
    )
    parser.add_argument(
        "--shapes", type=int, nargs=2, default=[100_000, 16], help="see `chances`"
    )
    parser.add_argument("--ancestral", action="store_true", help="DDPM's sampler too")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    if min(args.count, args.seeds, *args.steps, *args.shapes) < 1:
        parser.error("--count, --seeds, --steps and --shapes must be 1 or more")
    device, exam, rows = pick_device(args.device), held_out(args.count), []
    p = chances(exam.lr, *args.shapes)
    for name in args.model:
        model = load_model(name).to(device)
        samplers = [(0, {})]
        if model.is_generative:
            samplers = [(steps, {}) for steps in args.steps]
            if args.ancestral:
                samplers += [(args.steps[0], {"ancestral": True})]
        for steps, how in samplers:
            with tqdm(total=args.seeds * args.count, disable=None) as bar:
                sr = answers(model, exam, args.seeds, steps, bar.update, **how)
            row = {"model": Path(name).stem, "steps": steps, **how}
            row |= score_answers(sr, readings := read_all(sr), exam, p)
            row["calibration"] = calibration(p, frequencies(readings))
            rows.append(row)
    expected = laws(exam, p)
    print(format_scores(rows, expected))
    if args.json:
        rounded = [[round(x, 5) for x in row] for row in p.tolist()]
        save_record(args.json, rows, laws=expected, chances=rounded)


if __name__ == "__main__":
    main()
