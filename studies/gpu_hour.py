"""An hour with a GPU: train LIIF by the preset gpu for as long as there is time.

    python studies/gpu_hour.py FOLDER --minutes 60 --score Set5 Set14

FOLDER: photographs of 192 or more rows and columns. A short trial measures the speed,
and the number of steps follows from it, because the learning rate falls along the whole
run. --out then holds log.csv (seconds, steps a second, memory, utilisation), the
weights with their card, and scores.json. The same command goes on after an interrupt.
"""

import argparse
import csv
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from asr_course.commands import format_rows
from asr_course.data import Folder
from asr_course.devices import pick_device
from asr_course.errors import Stopped
from asr_course.images import sample_crops
from asr_course.metrics import Benchmark, evaluate
from asr_course.models import build
from asr_course.presets import PRESETS
from asr_course.records import processor, save_record, write_json
from asr_course.training import train
from asr_course.weights import save_weights

TRIAL = 60  # steps, of which the first third warms up
SPARE = 0.92  # of the time; the rest is for the trial and for scoring


class Log:
    """A line of log.csv every few seconds: pass it to train() as `on_step`."""

    FIELDS = ("step", "seconds", "steps_a_second", "loss", "memory_gb", "utilisation")

    def __init__(self, path: Path, device: torch.device, every: float = 10.0):
        self.path, self.device, self.every = path, device, every
        self.began = self.last = time.monotonic()
        self.before = None  # the step of the last line
        if not path.exists():
            self.write(self.FIELDS)

    def write(self, cells) -> None:
        with open(self.path, "a", newline="") as file:
            csv.writer(file).writerow(cells)

    def __call__(self, step: int, losses: list[float]) -> None:
        now = time.monotonic()
        if self.before is None:
            self.before, self.last = step, now
        elif now - self.last > self.every:
            speed = (step - self.before) / (now - self.last)
            loss = sum(losses[-50:]) / len(losses[-50:])
            cells = [step, round(now - self.began), round(speed, 3), round(loss, 5)]
            self.write([*cells, *usage(self.device)])
            self.before, self.last = step, now


def usage(device: torch.device) -> tuple:
    """GB of memory at most and percent of time in use, of a CUDA device."""
    if device.type != "cuda":
        return "", ""
    memory = round(torch.cuda.max_memory_allocated(device) / 2**30, 2)
    try:
        return memory, torch.cuda.utilization(device)
    except (ModuleNotFoundError, RuntimeError):  # needs nvidia-ml-py
        return memory, ""


def seconds_a_step(plan, pictures, **how) -> float:
    """Measured on a short run that is thrown away."""
    times = []
    schedule = replace(plan.schedule, steps=TRIAL, warmup=TRIAL)
    train(
        build("liif", plan.size),
        pictures,
        plan.recipe,
        schedule,
        on_step=lambda step, losses: times.append(time.monotonic()),
        **how,
    )
    warm = len(times) // 3
    return (times[-1] - times[warm]) / (len(times) - 1 - warm)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("runs/gpu_hour"))
    parser.add_argument("--score", type=Path, nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--device", default="auto")
    args = parser.parse_args(arguments)
    preset, device = PRESETS["gpu"], pick_device(args.device)
    plan = preset.lesson
    pictures = Folder(args.folder, smallest=plan.recipe.crop)
    how = {"device": str(device), "precision": preset.precision}
    how["workers"] = preset.workers
    args.out.mkdir(parents=True, exist_ok=True)
    speed = args.out / "speed.json"
    if not speed.exists():  # else the run goes on, by the plan that it has
        seconds = seconds_a_step(plan, pictures, **how)
        steps = max(1, int(60 * args.minutes * SPARE / seconds) - TRIAL)
        write_json(speed, {"seconds_a_step": seconds, "steps": steps})
    steps = json.loads(speed.read_text())["steps"]
    print(f"{steps} steps on {processor()}", flush=True)
    torch.manual_seed(0)
    model = build("liif", plan.size)
    schedule = replace(plan.schedule, steps=steps, warmup=min(300, steps))
    log = Log(args.out / "log.csv", device)
    how |= {"out": args.out, "resume": True, "on_step": log, "progress": True}
    try:
        train(model, pictures, plan.recipe, schedule, **how)
    except Stopped as stopped:
        sys.exit(str(stopped))
    card = {"data": args.folder.name, "steps": steps, "seed": 0, "terms": "not stated"}
    card["command"] = f"python studies/gpu_hour.py {args.folder.name}"
    save_weights(model, args.out / "liif.safetensors", card)
    data = [Benchmark(folder) for folder in args.score] or [sample_crops()]
    rows = [row for pictures in data for row in evaluate(model, pictures, (2, 3, 4))]
    print(format_rows(rows))
    save_record(args.out / "scores.json", rows, steps=steps)


if __name__ == "__main__":
    main()
