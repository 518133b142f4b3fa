"""Recorded results: the numbers in the text come from files in data/results."""

import csv
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from asr_course.errors import choose
from asr_course.images import write_whole

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "data" / "results"
PAPERS = ROOT / "data" / "paper_results.csv"


def load_record(name: str) -> dict:
    """A recorded result that comes with the course, by name."""
    files = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    return json.loads(files[choose("record", name, files)].read_text())


def save_record(path: str | Path, rows: list[dict], command=None, **about) -> None:
    """Write rows with the command that made them, the commit and the hardware.

    command: by default, the one that started this process.
    """
    record = {
        "command": command or started_by(sys.orig_argv),
        **about,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "hardware": processor(),
        "commit": commit(),
        "rows": rows,
    }
    write_json(path, record)


def write_json(path: str | Path, value) -> None:
    """Write strict JSON, whole or not at all; NaN and infinity become null."""
    value = json.loads(json.dumps(value), parse_constant=lambda name: None)
    write_whole(path, (json.dumps(value, indent=1) + "\n").encode())


def started_by(words: list[str]) -> str:
    """The command of a process, without the places of this machine."""
    names = [Path(w).name if Path(w).is_absolute() else w for w in words[1:]]
    return shlex.join(["python", *names])


def commit() -> str | None:
    """The repository's commit, "+dirty" if tracked files differ; None without git."""
    if not shutil.which("git"):
        return None
    git = ["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--exclude=*"]
    done = subprocess.run([*git, "--dirty=+dirty"], capture_output=True, text=True)
    return done.stdout.strip() or None


def processor() -> str:
    """What the machine computes with, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    info = Path("/proc/cpuinfo")
    found = re.search("model name.*: (.*)", info.read_text() if info.exists() else "")
    name = found[1] if found else platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"


def paper_rows(**where: str) -> list[dict[str, str]]:
    """Rows of data/paper_results.csv whose columns hold these values.

    Columns: paper, method, encoder, train_set, dataset, channel, scale, metric, value.
    """
    with open(PAPERS, newline="") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if all(row[k] == v for k, v in where.items())]


def paper_values(method: str, encoder: str, data: str, channel: str) -> dict:
    """PSNR that the papers print for a method: {"x2": 38.17, ...}.

    Where two papers print different values, the first in the file counts.
    """
    where = {"method": method, "encoder": encoder, "dataset": data, "channel": channel}
    rows = paper_rows(**where, metric="PSNR")
    return {row["scale"]: float(row["value"]) for row in reversed(rows)}
