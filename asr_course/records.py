"""Recorded results: what was measured, by which command, with what, on what.

Every number in the notebooks' text and in the README comes from a file in
data/results that one command rewrites.
"""

import csv
import hashlib
import json
import math
import os
import platform
from functools import cache
from pathlib import Path

import torch

from asr_course.errors import choose
from asr_course.images import atomic

DATA = Path(__file__).resolve().parent.parent / "data"
RESULTS = DATA / "results"
PAPERS = DATA / "paper_results.csv"


def processor() -> str:
    """What the machine computes with, in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(
            x.split(":")[1].strip() for x in lines if x.startswith("model name")
        )
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {torch.get_num_threads()} thread(s)"


def code_hash() -> str:
    """A short hash of the package's source files."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def write_json(path: str | Path, value) -> None:
    """Write strict JSON, whole or not at all; what is not finite becomes null."""

    def finite(value):
        if isinstance(value, dict):
            return {key: finite(item) for key, item in value.items()}
        if isinstance(value, list):
            return [finite(item) for item in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    with atomic(path) as temporary:
        temporary.write_text(json.dumps(finite(value), indent=1) + "\n")


def save_record(path: str | Path, rows: list[dict], command: str, **about) -> None:
    """Write rows with the command that made them, versions and hardware."""
    record = {
        "command": command,
        **about,
        "python": platform.python_version(),
        "torch": torch.__version__.split("+")[0],
        "hardware": processor(),
        "code": code_hash(),
        "rows": rows,
    }
    write_json(path, record)


def paper_values(
    method: str, encoder: str, data: str, channel: str
) -> dict[str, float]:
    """PSNR that the papers print for a method: {"x2": 38.17, ...}.

    From data/paper_results.csv, which holds every number of the papers' tables. Where
    two papers print different values, the one that comes first in the file counts.
    """
    found = {}
    for row in paper_rows(
        method=method, encoder=encoder, dataset=data, channel=channel, metric="PSNR"
    ):
        found.setdefault(row["scale"], float(row["value"]))
    return found


@cache
def paper_table() -> tuple[dict[str, str], ...]:
    """Every row of data/paper_results.csv, read once."""
    with open(PAPERS, newline="") as file:
        return tuple(csv.DictReader(file))


def paper_rows(**where: str) -> list[dict[str, str]]:
    """Rows of data/paper_results.csv whose columns hold what is asked for.

    Columns: paper, method, encoder, train_set, dataset, channel, scale, metric, value.
    """
    return [
        dict(row) for row in paper_table() if all(row[k] == v for k, v in where.items())
    ]


def load_record(name: str) -> dict:
    """A recorded result that comes with the course, by name."""
    there = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    return json.loads(there[choose("record", name, there)].read_text())
