"""What a ledger of claims is made from: rows with a verdict, and the papers' tables."""

from collections.abc import Sequence
from dataclasses import dataclass

from asr_course.errors import choose
from asr_course.records import load_record, paper_rows

REPRODUCED = "reproduced"
NOT_REPRODUCED = "not reproduced"  # counted here as there, with another result
NOT_AT_THIS_SCALE = "not at this scale"  # small models, short training: not seen
CONTRADICTED = "contradicted by the paper itself"  # its table, equation or text
NOT_CHECKABLE = "not checkable here"
VERDICTS = (REPRODUCED, NOT_REPRODUCED, NOT_AT_THIS_SCALE, CONTRADICTED, NOT_CHECKABLE)


@dataclass(frozen=True)
class Claim:
    """One row: what a paper says, what we found, and where that can be looked up."""

    paper: str
    place: str  # section or table
    kind: str  # parameters, multiplications, ablation, ordering, words
    claim: str
    printed: str
    ours: str
    verdict: str
    evidence: str  # a record, a test or the paper's own table

    def __post_init__(self):
        choose("verdict", self.verdict, VERDICTS)


def agrees(holds: bool, otherwise: str = NOT_AT_THIS_SCALE) -> str:
    """The verdict for something that was looked at here."""
    return REPRODUCED if holds else otherwise


def column(method: str, metric="PSNR", **where: str) -> dict[str, float]:
    """One line of a paper's table: {"x2": ...}. `where` as in `paper_rows`."""
    rows = paper_rows(method=method, metric=metric, **where)
    return {row["scale"]: float(row["value"]) for row in rows}


def gaps(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, float]:
    """ours - theirs wherever both have a number, in hundredths that are printed."""
    return {k: round(ours[k] - theirs[k], 4) for k in ours if k in theirs}


def listed(values: dict[str, float], form: str = "+.2f") -> str:
    """{"x2": 0.02} as "×2 +0.02"."""
    return ", ".join(
        f"{key.replace('x', '×')} {value:{form}}" for key, value in values.items()
    )


def span(values: Sequence[float], form: str = "+.2f") -> str:
    """The smallest and the largest of some values."""
    return f"{min(values):{form}} to {max(values):{form}}"


def rows_of(record: str, model: str) -> list[dict]:
    """A model's rows in a record."""
    return [row for row in load_record(record)["rows"] if row["model"] == model]


def per_query(model: str) -> dict:
    """What a query costs us, among few and among many."""
    us = {
        row["queries"]: row["cpu_seconds"] / row["queries"] * 1e6
        for row in rows_of("growth", model)
    }
    few, many = us[10_000], us[1_048_576]
    return {"us_small": few, "us_large": many, "linear": many < 1.5 * few}


def jumps(model: str, where: str) -> str:
    """How large our output's steps are at borders or centres of input pixels."""
    rows = rows_of("seams", model)
    sizes = ", ".join(f"{row[where]:.1f}" for row in rows)
    scales = ", ".join(f"×{row['scale']}" for row in rows)
    return f"steps {sizes} times those elsewhere at {scales}"


def continuous(model: str) -> bool:
    """Whether steps nowhere stay behind when the scale grows, as those of a jump do."""
    rows = rows_of("seams", model)
    return all(rows[-1][where] < 1.2 for where in ("border", "centre"))
