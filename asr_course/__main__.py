"""python -m asr_course upscale | evaluate | train | exam | profile | ablate | …"""

import argparse
import ast
import io
import os
import shlex
import sys
import time
import warnings
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

from asr_course.errors import UserError, choose, reason


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0, 2 for bad input, 130 interrupted.

    141, as a shell says, if nobody reads any more what the command prints.
    """
    name = "asr_course"
    try:
        with printing():
            args = parser().parse_args(arguments)
            name += f" {args.command}"
            return args.run(args) or 0
    except BrokenPipeError:
        drop_output()
        return 141
    except (UserError, OSError) as error:
        let_the_first_speak()
        print(f"{name}: {one_line(explain(error))}", file=sys.stderr)
        drop_output()
        return 2
    except KeyboardInterrupt:
        let_the_first_speak()
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def launched(arguments: list[str]) -> None:
    """`main` for accelerate.notebook_launcher, in each of its processes.

    A process whose command has failed, or was interrupted, ends: its launcher waits for
    those that return.
    """
    code = main(arguments)
    if code:
        raise SystemExit(code)


def let_the_first_speak() -> None:
    """Wait a little, in all but the first of the processes that share a training.

    They mostly fail alike, and one line will do. A launcher whose first process has
    ended with an error ends the others, before they say it too.
    """
    if int(os.environ.get("LOCAL_RANK", 0)) > 0:
        time.sleep(3)


@contextmanager
def printing():
    """All is printed by the end, what the terminal has no letters for as escapes.

    A file's name may hold any letters, and even bytes that are none.
    """
    terminal = isinstance(sys.stdout, io.TextIOWrapper)  # not a notebook, not closed
    before = terminal and sys.stdout.errors
    try:
        if terminal:
            sys.stdout.reconfigure(errors="backslashreplace")
        yield
    finally:
        if terminal:
            sys.stdout.flush()
            sys.stdout.reconfigure(errors=before)


def drop_output() -> None:
    """What cannot be printed is forgotten, or Python tries and complains at its end."""
    try:
        if sys.stdout:
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def explain(error: Exception) -> str:
    """What an error says, in our words where the system refused something."""
    why = reason(error) if isinstance(error, OSError) else None
    about = f"{error.filename}: " if why and error.filename else ""
    return about + (why or str(error))


def one_line(text: str) -> str:
    """`text` on one line: a file's name may hold several."""
    return " ".join(text.splitlines())


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage."""

    def error(self, message: str):
        let_the_first_speak()
        self.exit(2, f"{self.prog}: {one_line(message)} (--help explains)\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = OneLineParser(
        prog="python -m asr_course", description="Arbitrary-scale super-resolution."
    )
    commands = top.add_subparsers(dest="command", required=True)

    up = commands.add_parser("upscale", help="enlarge a picture by any factor")
    up.set_defaults(run=run_upscale)
    up.add_argument("input", type=Path)
    up.add_argument("output", type=Path)
    up.add_argument(
        "--model", default="liif", help="weights, or a .safetensors, .pth or .ckpt"
    )
    how = up.add_mutually_exclusive_group(required=True)
    how.add_argument("--scale", type=number, help="1 or more, for example 3.7")
    how.add_argument("--size", type=rows_by_columns, help="ROWSxCOLUMNS")
    up.add_argument(
        "--max-pixels", type=int, default=2**28, help="refuse larger outputs"
    )
    up.add_argument("--steps", type=int, default=25, help="of a sampler (idm)")
    up.add_argument("--seed", type=int, default=0, help="which of its answers (idm)")
    up.add_argument("--device", default="auto")

    ev = commands.add_parser("evaluate", help="score a model, or bicubic, on a folder")
    ev.set_defaults(run=run_evaluate)
    ev.add_argument(
        "--model", nargs="+", default=["liif"], help="weights, a file, or 'bicubic'"
    )
    ev.add_argument(
        "--data", type=Path, nargs="+", required=True, help="pictures, or HR/ in it"
    )
    ev.add_argument("--scales", type=number, nargs="+", default=[2, 3, 4])
    ev.add_argument(
        "--protocol", nargs="+", default=["liif"], help="liif, diinn, or both"
    )
    ev.add_argument(
        "--grey", default="rgb", help="score grey pictures as rgb or as grey"
    )
    ev.add_argument("--json", type=Path, help="write the rows to this file")
    ev.add_argument("--record", type=Path, help="the same with command and versions")
    ev.add_argument("--save", type=Path, help="write every output into this folder")
    ev.add_argument("--per-image", action="store_true", help="a row for every picture")
    ev.add_argument("--device", default="auto")

    tr = commands.add_parser("train", help="train a model, resumable")
    tr.set_defaults(run=run_train)
    tr.add_argument("--model", default="liif", help="which method")
    tr.add_argument("--preset", default="laptop", help="smoke, laptop or gpu")
    tr.add_argument("--out", type=Path, required=True, help="folder for what it writes")
    tr.add_argument(
        "--data",
        type=Path,
        help="folder of pictures, or HR/ in it; else generated ones",
    )
    tr.add_argument(
        "--digits", action="store_true", help="drawn digits, as idm does without --data"
    )
    tr.add_argument("--set", nargs="+", default=[], metavar="OPTION=VALUE")
    tr.add_argument("--encoder", help="an encoder other than the preset's")
    tr.add_argument("--steps", type=int)
    tr.add_argument("--rate", type=float, help="learning rate, instead of the preset's")
    tr.add_argument("--schedule", help="cosine, halve, restarts, stages or late")
    tr.add_argument("--loss", help="l1 or l2")
    tr.add_argument("--seed", type=int, default=0)
    tr.add_argument("--terms", help="who may use the weights, for their card")
    tr.add_argument("--resume", action="store_true", help="continue what --out holds")
    tr.add_argument(
        "--save-every", type=float, default=60, help="seconds between checkpoints"
    )
    tr.add_argument(
        "--precision", help="no, bf16 or fp16 (GPUs only), instead of the preset's"
    )
    tr.add_argument(
        "--accumulate",
        type=int,
        default=1,
        metavar="PIECES",
        help="take a batch in so many pieces, where memory is short",
    )
    tr.add_argument("--device", default="auto")

    do = commands.add_parser("download", help="pictures that papers use, resumable")
    do.set_defaults(run=run_download)
    do.add_argument("name", help="div2k (4 GB), div2k-valid (650 MB) or benchmark")
    do.add_argument(
        "--to", type=Path, default=Path("datasets"), help="folder; datasets if left out"
    )

    pr = commands.add_parser("profile", help="what a model costs")
    pr.set_defaults(run=run_profile)
    pr.add_argument("--model", nargs="+", default=["liif"], help="which methods")
    pr.add_argument(
        "--all",
        action="store_true",
        help="every method, if not said otherwise at "
        "paper and laptop size and x2, x4, x8, x16 and x30 (half an hour)",
    )
    pr.add_argument("--size", nargs="+", help="paper (if left out), laptop or tiny")
    pr.add_argument("--lr", type=rows_by_columns, default=(48, 48), help="input")
    pr.add_argument("--scale", type=number, nargs="+", help="4 if left out")
    pr.add_argument("--plot", type=Path, help="draw time against pixels into this .png")
    pr.add_argument("--json", type=Path, help="write the record to this file")
    pr.add_argument("--device", default="auto")

    gr = commands.add_parser("growth", help="cost against the number of queries")
    gr.set_defaults(run=run_growth)
    gr.add_argument("--model", nargs="+", default=["hiif", "diin"], help="hiif, diin")
    gr.add_argument("--size", default="laptop", help="paper, laptop or tiny")
    gr.add_argument(
        "--sides",
        type=int,
        nargs="+",
        default=[32, 64, 100, 160, 320, 640, 1024],
        help="rows and columns of square outputs",
    )
    gr.add_argument("--json", type=Path, help="write the record to this file")
    gr.add_argument("--device", default="auto")

    ex = commands.add_parser("exam", help="score models on digits that are left open")
    ex.set_defaults(run=run_exam)
    ex.add_argument("--model", nargs="+", default=["idm", "liif-digits"])
    ex.add_argument("--count", type=int, default=200, help="held-out digits")
    ex.add_argument("--seeds", type=int, default=20, help="answers to each of them")
    ex.add_argument("--steps", type=int, nargs="+", default=[25], help="of the sampler")
    ex.add_argument("--json", type=Path, help="write the record to this file")
    ex.add_argument("--device", default="auto")

    re = commands.add_parser("readers", help="train the readers that mark the exam")
    re.set_defaults(run=run_readers)
    re.add_argument("--out", type=Path, required=True, help="a .safetensors file")

    se = commands.add_parser("seams", help="where outputs jump")
    se.set_defaults(run=run_seams)
    se.add_argument("--model", nargs="+", default=["liif"], help="weights, or a file")
    se.add_argument("--scales", type=int, nargs="+", default=[8, 16, 32])
    se.add_argument("--json", type=Path, help="write the record to this file")
    se.add_argument("--device", default="auto")

    ab = commands.add_parser("ablate", help="train and score a method's variants")
    ab.set_defaults(run=run_ablate)
    ab.add_argument("--model", default="liif", help="which method")
    ab.add_argument("--preset", default="laptop", help="whose `lesson` plan to follow")
    ab.add_argument("--steps", type=int)
    ab.add_argument("--rate", type=float, help="learning rate, instead of the preset's")
    ab.add_argument("--seeds", type=int, nargs="+", default=[0])
    ab.add_argument("--variants", nargs="+", default=[], help="all of them if left out")
    ab.add_argument("--scales", type=number, nargs="+", default=[2, 3, 4, 8])
    ab.add_argument("--json", type=Path, help="write the record to this file")
    ab.add_argument("--device", default="auto")
    return top


def number(text: str) -> float:
    """A number, whole ones as int."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    return int(value) if value.is_integer() else value


def rows_by_columns(text: str) -> tuple[int, int]:
    """The words 240x320 as (240, 320)."""
    rows, times, cols = text.lower().partition("x")
    if not (times and rows.isdecimal() and cols.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not ROWSxCOLUMNS, for example 240x320"
        )
    return int(rows), int(cols)


def parse_options(pairs: list[str]) -> dict:
    """["skip=False", "hidden=(64,64)"] as {"skip": False, "hidden": (64, 64)}."""
    options = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise UserError(f"--set takes option=value, not {pair!r}")
        try:
            with warnings.catch_warnings(action="ignore"):  # of odd words, to stderr
                options[key] = ast.literal_eval(text)
        except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
            options[key] = text
    return options


def run_upscale(args) -> None:
    from tqdm import tqdm

    from asr_course.images import (
        check_writable,
        note_others,
        open_image,
        save_image,
    )
    from asr_course.render import check_size, upscale
    from asr_course.training import check_seed, pick_device
    from asr_course.weights import load_model

    image = open_image(args.input)
    check_writable(args.output, image.has_transparency_data)
    given = image.size[::-1]
    size = check_size(given, args.scale, args.size, args.max_pixels)
    model = load_model(args.model).to(pick_device(args.device))
    with tqdm(total=100, unit="%", disable=None) as bar:  # only on a terminal
        result = upscale(
            model,
            image,
            size=size,
            max_pixels=args.max_pixels,
            on_progress=lambda done: bar.update(round(100 * done) - bar.n),
            steps=args.steps,
            seed=check_seed(args.seed),
        )
    save_image(result, args.output)
    print(
        f"{args.output}: {given[0]}x{given[1]} to {size[0]}x{size[1]} (rows x columns)"
    )
    if args.size and abs(size[0] * given[1] / (size[1] * given[0]) - 1) > 0.01:
        print(
            f"note: rows grew {size[0] / given[0]:.3g} times, columns "
            f"{size[1] / given[1]:.3g} times, so shapes are stretched"
        )
    if note := note_others(image, args.input):
        print(note)


def check_files(*files: Path | None) -> None:
    """UserError, before any work is done, unless the files can be made."""
    from asr_course.images import check_file

    for file in files:
        if file:
            check_file(file)


def run_evaluate(args) -> None:
    from asr_course.images import check_folder, note_left_out
    from asr_course.metrics import Benchmark, check_scales, evaluate, format_rows
    from asr_course.records import save_record, write_json
    from asr_course.training import pick_device
    from asr_course.weights import find_weights, load_model, read_card

    check_files(args.json, args.record)
    if args.save:
        check_folder(args.save)
    for protocol in args.protocol:
        choose("protocol", protocol, ("liif", "diinn"))
    choose("way of scoring grey", args.grey, ("rgb", "grey"))
    check_scales(args.scales)
    models = [name for name in args.model if name != "bicubic"]
    cards = {name: read_card(find_weights(name)) for name in models}
    if args.record and len({Path(name).name for name in args.model}) < len(args.model):
        raise UserError("a record names weights by their file names: give them others")
    several = len(args.model) * len(args.data) * len(args.protocol) > 1
    device = pick_device(args.device)
    benchmarks = [Benchmark(folder) for folder in args.data]
    for benchmark in benchmarks:
        for scale, protocol in product(args.scales, args.protocol):
            benchmark.scorable(scale, protocol)
        left_out = dict.fromkeys(benchmark.unreadable, "cannot be read")
        for protocol in args.protocol:
            left_out |= benchmark.too_small(args.scales, protocol)
        if left_out:
            count = len(benchmark.paths) + len(benchmark.unreadable)
            print(note_left_out(benchmark.folder, left_out, count), flush=True)
    rows, trained = [], {}
    for name in args.model:
        model, about = None, {}
        if name in cards:
            model, card = load_model(name).to(device), cards[name]
            about = {"method": card["config"]["name"], "seed": card.get("seed")}
            trained[Path(name).name] = card.get("command")
        for data, protocol in product(benchmarks, args.protocol):
            save = args.save
            if save and several:
                save = save / Path(name).stem / data.folder.name
                save = save / protocol if len(args.protocol) > 1 else save
            found = evaluate(
                model,
                data,
                args.scales,
                protocol=protocol,
                grey=args.grey,
                per_image=args.per_image,
                save=save,
                name=name,
            )
            print(format_rows(found), flush=True)
            rows += [{**row, **about} for row in found]
    if args.json:
        write_json(args.json, rows)
    if args.record:
        names = [Path(name).name for name in args.model]  # no places of this machine
        rows = [{**row, "model": Path(row["model"]).name} for row in rows]
        command = f"python -m asr_course evaluate --model {' '.join(names)}"
        command += f" --data {' '.join(folder.name for folder in args.data)}"
        command += f" --scales {' '.join(f'{scale:g}' for scale in args.scales)}"
        command += f" --protocol {' '.join(args.protocol)} --grey {args.grey}"
        save_record(args.record, rows, command, trained=trained)


def schedule_of(plan, args):
    """The plan's schedule with the steps and the rate that were asked for."""
    asked = {name: getattr(args, name) for name in ("steps", "rate")}
    asked["shape"] = getattr(args, "schedule", None)
    asked["loss"] = getattr(args, "loss", None)
    asked = {name: value for name, value in asked.items() if value is not None}
    return replace(plan.schedule, **asked)


def run_train(args) -> int:
    from asr_course.images import check_folder
    from asr_course.models import MODELS, build
    from asr_course.presets import PRESETS, full_plan
    from asr_course.training import (
        is_main,
        leave_processes,
        set_seed,
        spare_threads,
        train,
        unfinished,
    )
    from asr_course.weights import save_weights

    spare_threads()
    preset = PRESETS[choose("preset", args.preset, PRESETS)]
    generates = MODELS[choose("model", args.model, MODELS)].generates
    digits = args.digits or (generates and not args.data)
    if args.data and args.digits:
        raise UserError("give either --data or --digits")
    plan = full_plan(preset, args.model, digits, args.encoder)
    schedule = schedule_of(plan, args)
    set_seed(args.seed)
    options = parse_options(args.set)
    for key in {"name", "size", "encoder"} & options.keys():
        raise UserError(
            f"{key} is no option of a model; choose it by --model, --preset or "
            "--encoder"
        )
    if generates:
        options.setdefault("largest", int(plan.recipe.scale_max))
    model = build(args.model, plan.size, args.encoder, **options)
    images, data = training_images(plan, args, digits)
    check_folder(args.out)
    weights = args.out / f"{args.model}.safetensors"
    if weights.exists() and not args.resume:
        raise UserError(f"{weights} exists; choose another --out, or delete it first")
    if not args.resume and unfinished(args.out):
        raise UserError(
            f"{args.out} holds a run that was stopped; go on with --resume, choose "
            "another --out, or delete its checkpoint.pt first"
        )
    run = train(
        model,
        images,
        plan.recipe,
        schedule,
        seed=args.seed,
        device=args.device,
        out=args.out,
        resume=args.resume,
        save_every=args.save_every,
        progress=True,
        precision=preset.precision if args.precision is None else args.precision,
        workers=preset.workers,
        accumulate=args.accumulate,
    )
    leave_processes()
    if not is_main():
        return 130 if run.interrupted else 0
    if run.interrupted:
        print(
            f"stopped after step {run.steps} of {schedule.steps}; "
            "the same command with --resume goes on from there"
        )
        return 130
    card = {
        "data": data,
        "steps": run.steps,
        "seed": args.seed,
        "terms": args.terms or "not stated; those of the training pictures apply",
        f"final_{schedule.loss}": sum(run.losses[-100:]) / len(run.losses[-100:]),
        "command": "python -m asr_course train " + " ".join(command_of(args)),
    }
    save_weights(model, weights, card)
    loss = f"{schedule.loss.upper()} {card[f'final_{schedule.loss}']:.4f}"
    print(f"{weights}: {run.steps} steps, {loss} over the last 100")
    return 0


def training_images(plan, args, digits: bool) -> tuple:
    """The pictures to train on, and what a card calls them."""
    from asr_course.digits import Characters
    from asr_course.data import Folder, Procedural
    from asr_course.images import note_left_out
    from asr_course.training import is_main

    if digits:
        return Characters(plan.pictures, args.seed), "drawn digits"
    if not args.data:
        side = max(256, plan.recipe.crop)
        images = Procedural(plan.pictures, args.seed, side)
        return images, f"{plan.pictures} generated pictures"
    images = Folder(args.data, smallest=plan.recipe.crop)
    if images.left_out and is_main():
        count = len(images) + len(images.left_out)
        print(note_left_out(args.data, images.left_out, count), flush=True)
    return images, args.data.name


def run_download(args) -> None:
    from asr_course.download import SETS, download

    chosen = SETS[choose("data set", args.name, SETS)]
    download(chosen.archives, args.to, tell=lambda line: print(line, flush=True))
    print("next:")
    for use in chosen.uses:
        print("  " + use.format(shlex.quote(str(args.to))))


def run_profile(args) -> None:
    from studies.benchmark import (
        SCALES,
        benchmark,
        format_profile,
        growth_of,
        plot_growth,
    )
    from asr_course.images import atomic, check_writable
    from asr_course.models import MODELS, SIZES
    from asr_course.plots import figure_png
    from asr_course.records import save_record
    from asr_course.training import pick_device

    check_files(args.json)
    if args.plot:
        check_writable(args.plot)
    device = pick_device(args.device)
    names = list(MODELS) if args.all else args.model
    sizes = args.size or (["paper", "laptop"] if args.all else ["paper"])
    scales = args.scale or (SCALES if args.all else [4])
    for name in names:
        choose("model", name, MODELS)
        for size in sizes:
            choose("size", size, SIZES[name])
    if min(args.lr) < 1:
        raise UserError("--lr needs at least one row and one column")
    for scale in scales:
        if not 1 <= scale <= 64:
            raise UserError(f"--scale must lie between 1 and 64, not {scale:g}")
    told = sys.stderr if sys.stderr.isatty() else None
    rows = benchmark(
        names,
        sizes,
        args.lr,
        scales,
        device,
        lambda row: told and print(row["model"], row["size"], row["scale"], file=told),
    )
    print(format_profile(rows))
    if args.plot:
        with atomic(args.plot) as temporary:
            temporary.write_bytes(figure_png(plot_growth(rows)))
    if args.json:
        command = f"python -m asr_course profile --model {' '.join(names)}"
        command += f" --size {' '.join(sizes)} --lr {args.lr[0]}x{args.lr[1]}"
        command += f" --scale {' '.join(f'{scale:g}' for scale in scales)}"
        save_record(args.json, rows, command, growth=growth_of(rows))


def run_growth(args) -> None:
    from studies.growth import LR, STEPS, format_growth, growth
    from asr_course.records import save_record
    from asr_course.training import pick_device

    check_files(args.json)
    device = pick_device(args.device)
    for name in args.model:
        choose("model whose queries hear from each other", name, STEPS)
    for side in args.sides:
        if not LR[0] <= side <= 4096:
            raise UserError(f"--sides must lie between {LR[0]} and 4096, not {side}")
    rows = [
        row
        for name in args.model
        for row in growth(name, args.size, args.sides, device)
    ]
    print(format_growth(rows))
    if args.json:
        command = f"python -m asr_course growth --model {' '.join(args.model)}"
        command += f" --size {args.size} --sides {' '.join(map(str, args.sides))}"
        save_record(args.json, rows, command)


def run_exam(args) -> None:
    import torch
    from tqdm import tqdm

    from asr_course.lessons.exam import (
        answers,
        calibration,
        format_marks,
        frequencies,
        held_out,
        laws,
        score_answers,
    )
    from asr_course.lessons.readers import load_readers
    from asr_course.records import save_record
    from asr_course.training import pick_device
    from asr_course.weights import load_model

    check_files(args.json)
    if min(args.count, args.seeds, *args.steps) < 1:
        raise UserError("--count, --seeds and --steps must be 1 or more")
    device, readers = pick_device(args.device), load_readers()
    models = {name: load_model(name).to(device) for name in args.model}
    exam, rows, curve = held_out(args.count), [], None
    p = readers.glance(exam.lr)
    for name, model in models.items():
        for steps in args.steps if model.generates else [0]:
            silent = None if model.generates else True  # None: only on a terminal
            with tqdm(total=args.seeds * args.count, disable=silent) as bar:
                found = answers(model, exam, args.seeds, steps, bar.update)
            marks = score_answers(found, exam, readers)
            rows.append({"model": Path(name).stem, "steps": steps, **marks})
            read = torch.stack([readers.read(x) for x in found])
            curve = curve or calibration(p, frequencies(read))  # of the first row
            print(f"{name}, {steps} steps: done", flush=True)
    expected = laws(exam, readers)
    print(format_marks(rows, expected))
    if args.json:
        names = " ".join(Path(name).name for name in args.model)
        command = f"python -m asr_course exam --model {names} --count {args.count}"
        command += f" --seeds {args.seeds} --steps {' '.join(map(str, args.steps))}"
        save_record(args.json, rows, command, laws=expected, calibration=curve)


def run_readers(args) -> None:
    from asr_course.lessons.exam import held_out, laws
    from asr_course.lessons.readers import save_readers, train_readers

    check_files(args.out)
    print("drawing digits and training two readers, about 5 minutes", flush=True)
    readers = train_readers()
    save_readers(readers, args.out, {"command": "python -m asr_course readers"})
    for name, value in laws(held_out(2000), readers).items():
        print(f"{name}: {value:.4g}")


def run_seams(args) -> None:
    from asr_course.lessons.side_by_side import seams
    from asr_course.records import save_record
    from asr_course.training import pick_device
    from asr_course.weights import load_model

    check_files(args.json)
    for scale in args.scales:
        if scale % 2 or not 2 <= scale <= 64:
            raise UserError(f"--scales are even numbers from 2 to 64, not {scale}")
    rows, device = [], pick_device(args.device)
    models = {name: load_model(name).to(device) for name in args.model}
    for name, model in models.items():
        if model.generates:
            raise UserError(f"{name} draws its answer: it has no function to follow")
    print("model          scale   border   centre")
    for name, model in models.items():
        for scale in args.scales:
            row = {"model": Path(name).name, "scale": scale, **seams(model, scale)}
            print(
                f"{row['model']:14} {scale:5} {row['border']:8.2f} {row['centre']:8.2f}"
            )
            rows.append(row)
    if args.json:
        names = " ".join(Path(name).name for name in args.model)
        command = f"python -m asr_course seams --model {names}"
        command += f" --scales {' '.join(map(str, args.scales))}"
        save_record(args.json, rows, command)


def run_ablate(args) -> None:
    from studies.ablate import ablate
    from asr_course.models import ABLATIONS, MODELS
    from asr_course.presets import PRESETS
    from asr_course.records import save_record

    check_files(args.json)
    preset = PRESETS[choose("preset", args.preset, PRESETS)]
    generates = MODELS[choose("model with ablations", args.model, ABLATIONS)].generates
    plan = preset.digits if generates else preset.lesson
    plan = replace(plan, schedule=schedule_of(plan, args))
    rows = ablate(
        args.model,
        plan,
        args.seeds,
        args.scales,
        args.variants,
        device=args.device,
        on_run=lambda variant, seed: print(f"{variant} seed {seed}: done", flush=True),
    )
    if args.json:
        words = f"--model {args.model} --preset {args.preset}"
        words += f" --steps {plan.schedule.steps}"
        if args.rate is not None:
            words += f" --rate {args.rate:g}"
        words += f" --seeds {' '.join(map(str, args.seeds))}"
        if not generates:
            words += f" --scales {' '.join(f'{scale:g}' for scale in args.scales)}"
        if args.variants:
            words += f" --variants {' '.join(args.variants)}"
        command = f"python -m asr_course ablate {words} --json {args.json.name}"
        save_record(args.json, rows, command)


def command_of(args) -> list[str]:
    """The options that decide what a training run computes, as one would type them."""
    words = ["--model", args.model, "--preset", args.preset]
    if args.data:
        words += ["--data", args.data.name]
    if args.set:
        words += ["--set", *args.set]
    if args.digits:
        words.append("--digits")
    for name in ("encoder", "steps", "rate", "schedule", "loss", "seed", "precision"):
        value = getattr(args, name)
        if value is not None:
            words += [f"--{name}", str(value)]
    return words


if __name__ == "__main__":
    sys.exit(main())
