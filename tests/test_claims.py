"""data/claims.toml: every row has its place, its numbers and its verdict."""

import re
import subprocess
import sys

import claims
import pytest
from helpers import ROOT

ROWS = claims.claims()
VERDICTS = {
    "contradiction": {"the paper disagrees with itself"},
    "trained": {
        "same sign in all seeds",
        "opposite sign in all seeds",
        "cannot tell",
        "no result",
    },
}


def test_every_row_is_computed_or_holds_no_number():
    assert set(claims.ROWS) <= set(ROWS)
    for name in set(ROWS) - set(claims.ROWS):
        assert claims.numbers_of(ROWS[name]) == []


@pytest.mark.parametrize("name", claims.ROWS)
def test_numbers_and_verdict_are_computed_anew(name):
    numbers, verdict = claims.ROWS[name]()
    assert numbers == claims.numbers_of(ROWS[name])
    assert verdict in (None, ROWS[name]["verdict"])
    assert verdict or ROWS[name]["kind"] != "trained"


@pytest.mark.parametrize("name, row", ROWS.items(), ids=list(ROWS))
def test_a_row_names_its_place_and_what_shows_it(name, row):
    """A contradiction names both of its places."""
    keys = {"paper", "kind", "place", "claim", "printed", "here", "verdict", "how"}
    assert set(row) == keys and name.startswith(row["paper"].lower())
    assert re.search(r"§\d|Eq\. \d|Tables? \d|abstract|contributions", row["place"])
    if row["kind"] == "contradiction":
        assert " against " in row["place"]
    parts = [part.partition(": ")[2] or part for part in row["verdict"].split("; ")]
    assert set(parts) <= VERDICTS.get(row["kind"], set(parts))
    file, _, test = row["how"].partition("::")
    if not file.startswith("https://"):
        assert (
            f"def {test}(" in (ROOT / file).read_text()
            if test
            else (ROOT / file).exists()
        )


def test_a_verdict_needs_the_sign_of_every_seed():
    cases = {
        (0.1, 0.2, 0.01): "same sign in all seeds",
        (-0.1, -0.2, -0.01): "opposite sign in all seeds",
        (0.1, 0.2, 0.004): "cannot tell",  # rounds to nothing
        (0.1, -1.2, 0.1): "no result",  # one did not train
    }
    for changes, expected in cases.items():
        assert claims.verdict(list(changes), 1) == expected


def test_the_script_prints_a_row():
    command = [sys.executable, ROOT / "studies" / "claims.py", "diin-depth"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "diin-depth: +0.09 +0.09 +0.11\n"
