"""What the commands of `python -m asr_course` do, from their parsed arguments."""

import json
import sys
from itertools import product
from pathlib import Path

from tqdm import tqdm

from asr_course import devices, images, metrics, plots, weights
from asr_course.download import SETS, download
from asr_course.enlarge import check_target, files_to_enlarge, upscale
from asr_course.errors import UserError
from asr_course.export import MEANING, OPSET, export
from asr_course.models import METHODS
from asr_course.profile import format_profile, profile
from asr_course.records import save_record, write_json

BAR = "{l_bar}{bar}| {elapsed}<{remaining}"


def run_upscale(args) -> int:
    """Of several pictures, those that fail are named and left out; exit code 2 then."""
    if not 1 <= args.quality <= 100:
        raise UserError(f"--quality must be from 1 to 100, not {args.quality}")
    files, several = files_to_enlarge(args.input, args.output)
    only = None
    if not several:  # before the model is read
        only = check_target(args.input[0], Path(args.output), args.overwrite)
    model = weights.load_model(args.model).to(devices.pick_device(args.device))
    failed = 0
    for number, (source, target) in enumerate(files.items(), start=1):
        try:
            image = only or check_target(source, target, args.overwrite)
            size = args.scale, args.size, args.max_pixels
            name = f"{number}/{len(files)}" if several else None
            with tqdm(total=1, desc=name, bar_format=BAR, disable=None) as bar:
                result = upscale(model, image, *size, bar.update, args.steps, args.seed)
            images.save_image(result, target, args.quality)
            (cols, rows), (w, h) = image.size, result.size
            frames = image.info["frames"]
            note = f", the first of {frames} frames" if frames > 1 else ""
            print(
                f"{target}: {rows}x{cols} to {h}x{w} (rows x columns){note}", flush=True
            )
        except (UserError, OSError) as error:
            if not several:
                raise
            failed += 1
            print(f"left out: {error}", file=sys.stderr)
    return 2 if failed else 0


def report_left_out(folder: Path, left_out: dict[str, str], count: int) -> None:
    """One line: which of the `count` images of a folder are not used, and why."""
    if left_out and devices.is_main():
        names = [f"{name} ({why})" for name, why in left_out.items()]
        shown = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        print(f"note: {len(names)} of {count} images in {folder} left out: {shown}")


def check_save(args) -> None:
    """UserError unless outputs can be saved, each in a place of its own."""
    images.check_place(args.save, args.overwrite)
    data = [images.name_of(folder) for folder in args.data]
    for names in ([Path(name).stem for name in args.model], data):
        if len(set(names)) < len(names):
            raise UserError("--save needs models, and data folders, of different names")


def check_files(args, *files: Path | None) -> None:
    """UserError unless these can be written, are new and are not one."""
    files = [file for file in files if file]
    if len(set(files)) < len(files):
        raise UserError(f"{files[0]} cannot hold two things; give two names")
    for file in files:
        images.check_place(file, args.overwrite)


def run_evaluate(args) -> None:
    check_files(args, args.json, args.record)
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
            left_out |= data.too_small(scale, protocol)
        count = len(data.sizes) + len(data.left_out)
        report_left_out(data.folder, left_out, count)
    rows = []
    for name in args.model:
        model, about = None, {}
        if card := cards.get(name):
            model = weights.load_model(name).to(device)
            about = {"method": card["config"]["name"], "seed": card.get("seed")}
            about |= {k: card[k] for k in ("steps", "cpu_hours") if "cpu_hours" in card}
        for data, protocol in product(benchmarks, args.protocol):
            save = args.save
            if save:
                save = save / Path(name).stem / images.name_of(data.folder) / protocol
            how = {"protocol": protocol, "grey": args.grey, "save": save, "name": name}
            how["per_image"] = args.per_image
            part = metrics.evaluate(model, data, args.scales, **how)
            print(format_rows(part), flush=True)
            rows += [{**row, **about} for row in part]
    if args.json:
        write_json(args.json, rows)
    if args.record:
        trained = {Path(name).name: card.get("command") for name, card in cards.items()}
        rows = [{**row, "model": Path(row["model"]).name} for row in rows]
        save_record(args.record, rows, trained=trained)


def format_rows(rows: list[dict]) -> str:
    """Rows of `evaluate` as a table for the terminal."""
    lines = ["data          scale   PSNR-Y  PSNR-RGB    SSIM  LR-PSNR  inputs, images"]
    lines += [
        f"{row['data'][:12]:12} {row['scale']:6g} {row['psnr_y']:8.2f} "
        f"{row['psnr_rgb']:9.2f} {row['ssim']:7.4f} {row['lr_psnr']:8.2f}  "
        f"{row['lr']}, {row.get('image', row['images'])}"
        for row in rows
    ]
    about = "model {model}, protocol {protocol}, grey images scored as {grey}"
    return "\n".join([*lines, about.format(**rows[0])])


def run_profile(args) -> None:
    check_files(args, args.json, args.plot)
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
        images.write_whole(args.plot, plots.figure_png(figure))
    if args.json:
        save_record(args.json, rows)


def run_export(args) -> None:
    images.check_place(args.out, args.overwrite)
    path, card = weights.find_weights(args.model), {"opset": OPSET, "meaning": MEANING}
    card["weights"] = (
        "matrices float16, computed with as float32" if args.half else "float32"
    )
    files = {}
    for name, proto in export(weights.load_model(path), args.half).items():
        ends = {"inputs": proto.graph.input, "outputs": proto.graph.output}
        card[name] = {key: [item.name for item in ends[key]] for key in ends}
        files[f"{name}.onnx"] = proto.SerializeToString()
    card["trained"] = weights.read_card(path)
    files["card.json"] = (json.dumps(card, indent=1) + "\n").encode()
    for name, data in files.items():
        images.write_whole(args.out / name, data)
        print(f"{args.out / name}: {len(data):,} bytes", flush=True)


def run_download(args) -> None:
    download(SETS[args.name], args.to)
