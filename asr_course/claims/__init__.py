"""The ledger of claims: what five papers say, what we found, and where to look it up.

`python -m asr_course claims` makes it from the papers' tables (data/paper_results.csv),
from counts made on the spot and from the records in data/results.
"""

from collections import Counter
from dataclasses import asdict

from asr_course.claims.counts import cost_claims, parameter_claims
from asr_course.claims.tools import VERDICTS, Claim
from asr_course.claims.trained import ablation_claims, ordering_claims
from asr_course.claims.words import word_claims
from asr_course.plots import markdown

__all__ = ["VERDICTS", "Claim", "ledger", "page", "tally"]

KINDS = {
    "words": "In words",
    "parameters": "Parameters",
    "multiplications": "Multiplications",
    "ablation": "Ablations",
    "ordering": "Against LIIF",
}
HEAD = """\
# The ledger of claims

What the papers of DIINN, DIIF, HIIF, DIIN and IDM say that can be checked, and what we
found. `python -m asr_course claims` makes the record and `make pages` this page; nobody
edits either by hand.

* **reproduced**: counted or measured here with the same result, or the same sign
* **not reproduced**: counted as the paper counts, with another result
* **not at this scale**: our small networks after a short training do not show it, which
  says nothing about large ones
* **contradicted by the paper itself**: the sentence and the paper's own table, equation
  or another sentence cannot both be right
* **not checkable here**: needs a data set, a GPU or code that nobody has published

An ablation counts as reproduced if all three of our seeds lie on the paper's side, an
ordering if every seed of one method beats every seed of the other; where the paper
prints a tie, ours must be one. In ablations, scales above ×4 are compared with ours at
×8. Only signs are compared: the papers train large networks for up to a million steps,
we train small ones for minutes.
"""


def ledger() -> list[dict[str, str]]:
    """All claims as rows of text."""
    claims = [*word_claims(), *parameter_claims(), *cost_claims()]
    claims += [*ablation_claims(), *ordering_claims()]
    return [asdict(claim) for claim in claims]


def tally(rows: list[dict[str, str]]) -> Counter:
    """How many rows have which verdict: {(paper, verdict): number}."""
    return Counter((row["paper"], row["verdict"]) for row in rows)


def format_tally(rows: list[dict[str, str]]) -> str:
    """The tally as lines of text."""
    found, papers = tally(rows), sorted({row["paper"] for row in rows})
    lines = [f"{'':40}" + "".join(f"{paper:>7}" for paper in papers)]
    for verdict in VERDICTS:
        numbers = "".join(f"{found[paper, verdict]:7}" for paper in papers)
        lines.append(f"{verdict:40}{numbers}")
    return "\n".join(lines)


def page(rows: list[dict[str, str]]) -> str:
    """docs/claims.md: every row, by paper and kind."""
    parts = [HEAD]
    for paper in sorted({row["paper"] for row in rows}):
        parts.append(f"## {paper}\n")
        for kind, title in KINDS.items():
            found = [r for r in rows if (r["paper"], r["kind"]) == (paper, kind)]
            if not found:
                continue
            keys = ("claim", "printed", "ours", "verdict")
            lines = [
                [*(row[key] for key in keys), f"{row['place']}; {row['evidence']}"]
                for row in found
            ]
            table = markdown([*keys, "place, evidence"], lines)
            parts.append(f"### {title}\n\n{table}\n")
    return "\n".join(parts)
