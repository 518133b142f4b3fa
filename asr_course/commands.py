"""What the commands of `python -m asr_course` do, from their parsed arguments."""

import ast
import shlex
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

from tqdm import tqdm

from asr_course import devices, images, metrics, plots, weights
from asr_course.checkpoints import unfinished
from asr_course.data import Folder
from asr_course.digits import Characters
from asr_course.download import SETS, USES, download
from asr_course.enlarge import check_target, files_to_enlarge, upscale
from asr_course.errors import UserError
from asr_course.models import METHODS, build
from asr_course.presets import PRESETS, full_plan
from asr_course.procedural import Procedural
from asr_course.profile import format_profile, profile
from asr_course.records import save_record, write_json
from asr_course.training import train


def run_upscale(args) -> int:
    """Of several pictures, those that fail are named and left out; exit code 2 then."""
    files, several = files_to_enlarge(args.input, args.output)
    if several:
        images.check_folder(args.output)
        Path(args.output).mkdir(parents=True, exist_ok=True)
    else:  # before the model is read
        check_target(args.input[0], Path(args.output), args.overwrite)
    model = weights.load_model(args.model).to(devices.pick_device(args.device))
    failed = 0
    for number, (source, target) in enumerate(files.items(), start=1):
        try:
            image = check_target(source, target, args.overwrite)
            size = args.scale, args.size, args.max_pixels
            name = f"{number}/{len(files)}" if several else None
            with tqdm(total=100, desc=name, unit="%", disable=None) as bar:

                def report(done: float, bar=bar) -> None:
                    bar.update(round(100 * done) - bar.n)

                result = upscale(model, image, *size, report, args.steps, args.seed)
            images.save_image(result, target, args.quality)
            (cols, rows), (w, h) = image.size, result.size
            print(f"{target}: {rows}x{cols} to {h}x{w} (rows x columns)", flush=True)
        except (UserError, OSError) as error:
            if not several:
                raise
            failed += 1
            print(f"left out: {error}", file=sys.stderr)
    return 2 if failed else 0


def check_outputs(args, *files: Path | None) -> None:
    """UserError unless all of these can be written, and are new or may be replaced."""
    for file in filter(None, files):
        images.check_file(file, args.overwrite)


def report_left_out(folder: Path, left_out: dict[str, str], count: int) -> None:
    """One line: which of the `count` images of a folder are not used, and why."""
    if left_out and devices.is_main():
        names = [f"{name} ({why})" for name, why in left_out.items()]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        print(f"note: {len(names)} of {count} images in {folder} left out: {shown}")


def check_save(args) -> None:
    """UserError unless outputs can be saved, each in a place of its own."""
    images.check_folder(args.save)
    if args.save.is_dir() and any(args.save.iterdir()) and not args.overwrite:
        why = f"{args.save} is not empty"
        raise UserError(f"{why}: choose another folder, or add --overwrite")
    for given in (args.model, args.data):
        if len({Path(name).resolve().stem for name in given}) < len(given):
            raise UserError("--save needs models, and data folders, of different names")


def run_evaluate(args) -> None:
    check_outputs(args, args.json, args.record)
    if args.save:
        check_save(args)
    names = [name for name in args.model if name != "bicubic"]
    cards = {name: weights.read_card(weights.find_weights(name)) for name in names}
    device = devices.pick_device(args.device)
    benchmarks = [metrics.Benchmark(folder) for folder in args.data]
    for data in benchmarks:
        left_out = dict(data.left_out)
        for protocol, scale in product(args.protocol, args.scales):
            data.scorable(scale, protocol)  # refused before anything is scored
            left_out |= data.too_small([scale], protocol)
        count = len(data.sizes) + len(data.left_out)
        report_left_out(data.folder, left_out, count)
    rows = []
    for name in args.model:
        model, about = None, {}
        if card := cards.get(name):
            model = weights.load_model(name).to(device)
            about = {"method": card["config"]["name"], "seed": card.get("seed")}
        for data, protocol in product(benchmarks, args.protocol):
            save = args.save
            if save and len(args.model) * len(benchmarks) * len(args.protocol) > 1:
                save = save / Path(name).stem / data.folder.name
                save = save / protocol if len(args.protocol) > 1 else save
            how = {"protocol": protocol, "grey": args.grey, "save": save, "name": name}
            how["per_image"] = args.per_image
            part = metrics.evaluate(model, data, args.scales, **how)
            print(metrics.format_rows(part), flush=True)
            rows += [{**row, **about} for row in part]
    if args.json:
        write_json(args.json, rows)
    if args.record:
        trained = {Path(name).name: card.get("command") for name, card in cards.items()}
        rows = [{**row, "model": Path(row["model"]).name} for row in rows]
        save_record(args.record, rows, trained=trained)


def run_train(args) -> int:
    devices.spare_threads()
    if args.data and args.digits:
        raise UserError("give either --data or --digits")
    is_generative = METHODS[args.model].is_generative
    digits = args.digits or (is_generative and not args.data)
    preset = PRESETS[args.preset]
    plan = full_plan(preset, args.model, digits, args.encoder)
    asked = {"steps": args.steps, "rate": args.rate, "loss": args.loss}
    asked["shape"] = args.schedule
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
    images.check_folder(args.out)
    file = args.out / f"{args.model}.safetensors"
    started = (args.out / "checkpoint.pt").exists()
    if file.exists() and not (args.resume and started):
        why = f"{file} holds trained weights"
        raise UserError(f"{why}: choose another --out" + started * ", or --resume")
    if not args.resume and unfinished(args.out):
        why = f"{args.out} holds a run that was stopped"
        raise UserError(f"{why}: continue it with --resume, or choose another --out")
    keys = ("seed", "device", "out", "resume", "save_every", "accumulate")
    how = {key: getattr(args, key) for key in keys}
    how["precision"] = args.precision or preset.precision
    how["workers"] = preset.workers
    run = train(model, pictures, plan.recipe, schedule, progress=True, **how)
    devices.leave_processes()
    if run.interrupted:
        message = (
            f"stopped after step {run.steps} of {schedule.steps}; --resume goes on"
        )
    elif devices.is_main():
        recent = run.losses[-100:]
        loss = sum(recent) / len(recent)
        card = {"data": data, "steps": run.steps, "seed": args.seed}
        card |= {"terms": args.terms, f"final_{schedule.loss}": loss}
        weights.save_weights(model, file, {**card, "command": command_of(args)})
        message = f"{file}: {run.steps} steps, {schedule.loss.upper()} {loss:.4f}"
        message += " over the last 100"
    if devices.is_main():
        print(message)
    return 130 if run.interrupted else 0


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


def command_of(args) -> str:
    """The command of a training run, with the options that decide its result."""
    words = ["--model", args.model, "--preset", args.preset]
    words += ["--data", args.data.name] if args.data else []
    words += ["--set", *args.set] if args.set else []
    words += ["--digits"] if args.digits else []
    for name in (
        "encoder",
        "init",
        "steps",
        "rate",
        "schedule",
        "loss",
        "seed",
        "precision",
    ):
        if (value := getattr(args, name)) is not None:
            words += [f"--{name}", str(value)]
    return "python -m asr_course train " + shlex.join(words)


def run_profile(args) -> None:
    check_outputs(args, args.json, args.plot)
    device = devices.pick_device(args.device)
    names = list(METHODS) if args.all else args.model
    sizes = args.size or (["paper", "laptop"] if args.all else ["paper"])
    scales = args.scale or ([2, 4, 8, 16, 30] if args.all else [4])
    if min(args.lr) < 1 or not all(1 <= scale <= 64 for scale in scales):
        raise UserError("--lr must be 1x1 or more, and --scale between 1 and 64")
    rows = []
    for size, name, scale in tqdm([*product(sizes, names, scales)], disable=None):
        method = METHODS[name]
        if not method.is_generative or scale <= method.SIZES[size].largest:
            rows.append(profile(name, size, args.lr, scale, device))
    print(format_profile(rows))
    if args.plot:
        figure, axes = plots.axes()
        for name in dict.fromkeys(row["model"] for row in rows):
            line = [row for row in rows if row["model"] == name]
            pixels, seconds = (
                [r[key] for r in line] for key in ("pixels", "cpu_seconds")
            )
            axes.loglog(pixels, seconds, "o", label=name)
        axes.set(xlabel="output pixels", ylabel="CPU seconds")
        axes.legend()
        args.plot.write_bytes(plots.figure_png(figure))
    if args.json:
        save_record(args.json, rows)


def run_download(args) -> None:
    download(SETS[args.name], args.to)
    print("next:")
    for use in USES[args.name]:
        print("  python -m asr_course", use.format(shlex.quote(str(args.to))))
