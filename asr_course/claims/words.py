"""What the papers say in words: data/claims/PAPER.toml, filled with facts.

A claim there has `claim` (in our words), `place`, `printed`, `ours`, `verdict` and
`evidence`. `ours` and `printed` may hold {facts}, numbers that the paper's module here
computes from the papers' tables, the records and counts. `holds` names a fact that is
true or false: if it is true the claim is reproduced, else `verdict` stands.
"""

import tomllib

from asr_course.claims import diif, diin, diinn, hiif, idm
from asr_course.claims.tools import REPRODUCED, Claim
from asr_course.records import DATA

FACTS = {
    "DIINN": diinn.facts,
    "DIIF": diif.facts,
    "HIIF": hiif.facts,
    "DIIN": diin.facts,
    "IDM": idm.facts,
}


def word_claims() -> list[Claim]:
    """Every claim in words, paper by paper."""
    return [claim for paper in FACTS for claim in claims_of(paper)]


def claims_of(paper: str) -> list[Claim]:
    """The claims of data/claims/PAPER.toml with their facts filled in."""
    text = (DATA / "claims" / f"{paper.lower()}.toml").read_text(encoding="utf-8")
    known = FACTS[paper]()
    return [filled(paper, row, known) for row in tomllib.loads(text)["claim"]]


def filled(paper: str, row: dict[str, str], known: dict) -> Claim:
    """One claim; KeyError if it names a fact that there is not."""
    verdict = row["verdict"]
    if "holds" in row and known[row["holds"]]:
        verdict = REPRODUCED
    printed, ours = (row.get(key, "").format(**known) for key in ("printed", "ours"))
    evidence = row.get("evidence", "the paper's tables")
    return Claim(
        paper, row["place"], "words", row["claim"], printed, ours, verdict, evidence
    )
