"""IDM on small photographs: scores beside LIIF's, and a sheet of samples to look at.

    python -m asr_course train --model idm --preset laptop --data TRAINING \
        --steps 3000 --precision bf16 --out runs/photographs
    python studies/photographs.py runs/photographs/idm.safetensors TEST \
        --json data/results/idm_photographs.json --sheet docs/idm_photographs.png

Both folders hold photographs. Scored are the middles of those in TEST, shrunk to half
their size: 64 x 64 pixels from inputs of 16 x 16. On the sheet are bundled ones.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from asr_course.data import Folder
from asr_course.images import resize, sample_photo, to_tensor
from asr_course.lessons.exam import Exam, answers, consistency, sharpness, spread
from asr_course.metrics import psnr
from asr_course.plots import gallery
from asr_course.records import save_record
from asr_course.weights import load_model, load_pretrained, read_card

SIDE, SCALE = 64, 4
SHOWN = {"astronaut": (60, 160), "chelsea": (20, 100), "coffee": (60, 170)}  # corners


def half(pixels: np.ndarray, corner: tuple[int, int] | None = None) -> np.ndarray:
    """2 SIDE x 2 SIDE pixels from a corner on, or the middle ones, as SIDE x SIDE."""
    row, col = corner or (n // 2 - SIDE for n in pixels.shape[:2])
    return resize(pixels[row:, col:][: 2 * SIDE, : 2 * SIDE], (SIDE, SIDE))


def pairs(pictures: list[np.ndarray]) -> Exam:
    """Pictures (SIDE, SIDE, 3) and what is left of them; their labels mean nothing."""
    lr = [resize(hr, (SIDE // SCALE, SIDE // SCALE)) for hr in pictures]
    lr, hr = (torch.cat([to_tensor(x) for x in part]) for part in (lr, pictures))
    return Exam(lr, hr, torch.zeros(len(hr)))


def scores(sr: torch.Tensor, exam: Exam) -> dict[str, dict]:
    """Means over pictures of outputs (seeds, n, 3, h, w), spread over seeds."""
    mean = sr.mean(0)  # over seeds: another estimate of the best answer
    measured = {
        "psnr": [np.mean(list(map(psnr, x, exam.hr))) for x in sr],
        "psnr_of_mean": [np.mean(list(map(psnr, mean, exam.hr)))],
        "sharpness": [sharpness(x, exam.hr) for x in sr],
        "consistency": [consistency(x, exam.lr) for x in sr],
    }
    return {name: spread(values) for name, values in measured.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("weights", help="of the trained IDM")
    parser.add_argument("folder", type=Path, help="photographs to score on")
    parser.add_argument("--seeds", type=int, default=10, help="samples of each")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    parser.add_argument("--sheet", type=Path, help="write the picture to this file")
    args = parser.parse_args()
    models = {"idm": load_model(args.weights), "liif": load_pretrained("liif")}
    exam = pairs([half(pixels) for pixels in Folder(args.folder, 2 * SIDE)])
    rows = []
    for name, model in models.items():
        rows.append({"model": name, **scores(answers(model, exam, args.seeds), exam)})
        print(rows[-1])
    if args.json:
        about = {"pictures": len(exam), "test_set": args.folder.name}
        about["trained"] = read_card(args.weights)["command"]
        save_record(args.json, rows, **about)
    if args.sheet:
        shown = pairs([half(sample_photo(name), at) for name, at in SHOWN.items()])
        drawn = {name: answers(model, shown, 3) for name, model in models.items()}
        columns = {"input": shown.lr, "LIIF": drawn["liif"][0]}
        columns |= {f"IDM, seed {k}": x for k, x in enumerate(drawn["idm"])}
        columns["photograph"] = shown.hr
        pictures = [x[k] for k in range(len(SHOWN)) for x in columns.values()]
        titles = [*columns, *[""] * (len(pictures) - len(columns))]
        gallery(pictures, titles, 192, len(columns)).save(args.sheet)


if __name__ == "__main__":
    main()
