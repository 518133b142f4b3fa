"""python -m asr_course upscale | evaluate | train | profile | export | download"""

import argparse
import os
import sys
from pathlib import Path

from asr_course import commands, training_command
from asr_course.download import SETS
from asr_course.models import DEFAULT_ENCODER, METHODS
from asr_course.presets import PRESETS
from asr_course.schedule import SHAPES

MEMORY = "a smaller output, --accumulate (train) or --device cpu may help"


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0; 2 for bad input; 130 if interrupted;
    141 if nobody reads the output any more, as after `| head`."""
    args = parser().parse_args(arguments)
    args.words = ["python", "-m", "asr_course", *(arguments or sys.argv[1:])]
    name = f"asr_course {args.command}"
    try:
        module = training_command if args.command == "train" else commands
        code = getattr(module, f"run_{args.command}")(args) or 0
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (ValueError, OSError, MemoryError) as error:
        words = str(error).split() or ["not enough memory;", MEMORY]
        print(f"{name}: {' '.join(words)}", file=sys.stderr)
        return 2
    except RuntimeError as error:
        if "memory" not in str(error):
            raise
        print(f"{name}: not enough memory; {MEMORY}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130


def launched(arguments: list[str]) -> None:
    """`main` for accelerate.notebook_launcher: a process that fails exits."""
    if code := main(arguments):
        raise SystemExit(code)


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the arguments in one line, without the usage."""

    def error(self, message: str):
        self.exit(2, f"{self.prog}: {' '.join(message.split())} (--help explains)\n")


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = Parser(prog="python -m asr_course", description=__doc__)
    add = top.add_subparsers(dest="command", required=True).add_parser

    up = add("upscale", help="enlarge images by any factor").add_argument
    up("input", type=Path, nargs="+", help="images, or folders of them")
    up("output", help="a file; for several images, or ending in /, a folder")
    up("--model", default="liif", help="weights, or a .safetensors, .pth or .ckpt")
    up("--scale", type=number, help="1 or more, for example 3.7")
    up("--size", type=rows_by_columns, help="240x320, rows x columns, instead")
    up("--quality", type=int, default=95, help="1 to 100, of .jpg and .webp")
    up("--max-pixels", type=int, default=2**28, help="refuse larger outputs")
    up("--steps", type=int, default=25, help="of a sampler (idm)")
    up("--seed", type=int, default=0, help="of a sampler (idm)")
    up("--overwrite", action="store_true", help="replace files that exist")
    up("--device", default="auto")

    ev = add("evaluate", help="score a model, or bicubic, on a folder").add_argument
    ev("--model", nargs="+", default=["liif"], help="weights, a file, or 'bicubic'")
    ev("--data", type=Path, nargs="+", required=True, help="images, or HR/ in it")
    ev("--scales", type=number, nargs="+", default=[2, 3, 4])
    ev("--protocol", nargs="+", default=["liif"], choices=["liif", "diinn"])
    ev("--grey", default="rgb", choices=["rgb", "grey"], help="how grey is scored")
    ev("--json", type=Path, help="write the rows to this file")
    ev("--record", type=Path, help="the same with command and versions")
    ev("--save", type=Path, help="write every output into this folder")
    ev("--per-image", action="store_true", help="a row for every image")
    ev("--overwrite", action="store_true", help="replace files that exist")
    ev("--device", default="auto")

    tr = add("train", help="train a model, resumable").add_argument
    tr("--model", default="liif", choices=METHODS)
    tr("--preset", default="laptop", choices=PRESETS)
    tr("--out", type=Path, required=True, help="folder for what it writes")
    tr("--data", type=Path, help="folder of images, or HR/ in it; else generated ones")
    tr("--digits", action="store_true", help="drawn digits, as idm without --data")
    tr("--set", nargs="+", default=[], metavar="OPTION=VALUE", help="of the model")
    tr("--encoder", help="an encoder other than the preset's")
    tr("--steps", type=int)
    tr("--rate", type=float, help="learning rate, instead of the preset's")
    tr("--schedule", choices=SHAPES, dest="shape")
    tr("--loss", choices=["l1", "l2"])
    tr("--seed", type=int, default=0)
    tr("--terms", default="not stated; those of the training images apply")
    tr("--init", help="begin with these weights: a name, or a file")
    tr("--resume", action="store_true", help="continue, or extend, what --out holds")
    tr("--save-every", type=float, default=60, help="seconds between checkpoints")
    tr("--precision", help="no, auto, bf16 or fp16")
    tr("--accumulate", type=int, default=1, help="cut a batch into so many pieces")
    tr("--device", default="auto")

    pr = add("profile", help="what a model costs").add_argument
    pr("--model", nargs="+", default=["liif"], choices=METHODS)
    pr("--all", action="store_true", help="all models, sizes and scales: half an hour")
    pr("--size", nargs="+", choices=DEFAULT_ENCODER, help="paper if left out")
    pr("--lr", type=rows_by_columns, default=(48, 48), help="rows x columns")
    pr("--scale", type=number, nargs="+", help="4 if left out")
    pr("--plot", type=Path, help="draw time against pixels into this .png")
    pr("--json", type=Path, help="write the record to this file")
    pr("--overwrite", action="store_true", help="replace files that exist")
    pr("--device", default="auto")

    ex = add("export", help="write a model as ONNX files").add_argument
    ex("--model", default="liif", help="weights, or a file")
    ex("--out", type=Path, required=True, help="folder for the files and card.json")
    ex("--half", action="store_true", help="store weights as float16")
    ex("--overwrite", action="store_true", help="replace files that exist")

    do = add("download", help="images that papers use, resumable").add_argument
    do("name", choices=SETS, help="4 GB, 650 MB, 250 MB")
    do("--to", type=Path, default=Path("datasets"), help="folder; datasets if left out")
    return top


def number(text: str) -> float:
    """A number, whole ones as int."""
    value = float(text)
    return int(value) if value.is_integer() else value


def rows_by_columns(text: str) -> tuple[int, int]:
    """The words 240x320 as (240, 320)."""
    rows, cols = map(int, text.lower().split("x"))
    return rows, cols


if __name__ == "__main__":
    sys.exit(main())
