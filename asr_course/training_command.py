"""The command `train`: what is trained, on what, and what is written about it."""

import ast
import json
from dataclasses import replace
from statistics import fmean

from asr_course import devices, images, weights
from asr_course.checkpoints import set_aside
from asr_course.commands import report_left_out
from asr_course.data import Folder
from asr_course.digits import Characters
from asr_course.errors import Stopped, UserError
from asr_course.models import METHODS, build
from asr_course.presets import PRESETS, full_plan
from asr_course.procedural import Procedural
from asr_course.records import started_by, write_json
from asr_course.training import train


def run_train(args) -> int:
    devices.spare_threads()
    if args.data and args.digits:
        raise UserError("give either --data or --digits")
    if args.init and args.resume:
        raise UserError("--resume goes on from its own checkpoint: leave --init out")
    is_generative = METHODS[args.model].is_generative
    digits = args.digits or (is_generative and not args.data)
    preset = PRESETS[args.preset]
    plan = full_plan(preset, args.model, digits, args.encoder)
    asked = {key: getattr(args, key) for key in ("steps", "rate", "shape", "loss")}
    asked = {key: value for key, value in asked.items() if value is not None}
    schedule = replace(plan.schedule, **asked)
    devices.set_seed(args.seed)
    options = {"largest": int(plan.recipe.scale_max)} if is_generative else {}
    options |= parse_options(args.set)
    model = build(args.model, plan.size, args.encoder, **options)
    if args.init:
        weights.start_from(model, args.init)
    if digits:
        pictures, data = Characters(plan.pictures, args.seed), "drawn digits"
    elif args.data:
        pictures, data = Folder(args.data, smallest=plan.recipe.crop), args.data.name
        count = len(pictures) + len(pictures.left_out)
        report_left_out(args.data, pictures.left_out, count)
    else:
        side, data = max(256, plan.recipe.crop), f"{plan.pictures} generated pictures"
        pictures = Procedural(plan.pictures, args.seed, side)
    file = args.out / f"{args.model}.safetensors"
    checkpoint = args.out / "checkpoint.pt"
    images.check_place(checkpoint, overwrite=True)
    if file.exists() and not (args.resume and checkpoint.exists()):
        why = f"{file} holds trained weights"
        raise UserError(f"{why}: choose another --out, or --resume its run")
    about = args.out / "run.json"  # what a card says and a checkpoint does not know
    card = {"command": started_by(args.words), "terms": args.terms}
    if args.resume and about.exists():
        card |= json.loads(about.read_text())
    keys = ("seed", "device", "out", "resume", "save_every", "accumulate")
    how = {key: getattr(args, key) for key in keys} | {"workers": preset.workers}
    how["precision"] = args.precision or preset.precision
    try:
        run = train(model, pictures, plan.recipe, schedule, progress=True, **how)
    except Stopped as error:
        run, message = None, str(error)
    devices.leave_processes()
    if not devices.is_main():
        return 0 if run else 130
    if not args.resume:
        set_aside(about)
    write_json(about, card)
    if run and file.exists() and weights.read_card(file).get("steps") == run.steps:
        message = f"{file}: nothing left to do"
    elif run:
        set_aside(file)  # of a run that was extended
        loss = fmean(run.losses[-100:])
        card |= {"data": data, "steps": run.steps, "seed": args.seed}
        weights.save_weights(model, file, card | {f"final_{schedule.loss}": loss})
        message = f"{file}: {run.steps} steps, {schedule.loss.upper()} {loss:.4f}"
        message += " over the last 100"
    print(message)
    return 0 if run else 130


def parse_options(pairs: list[str]) -> dict:
    """["skip=False", "hidden=(64,64)"] as {"skip": False, "hidden": (64, 64)}."""
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or key in ("name", "size", "encoder"):
            raise UserError(f"--set takes a model's option=value, not {pair!r}")
        try:
            options[key] = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            options[key] = text  # a word
    return options
