"""The ledger of claims: how numbers and signs are compared, and that none is missing.

The counts themselves are proven in test_profiling and in the tests of each model.
"""

import re
import tomllib
from collections import Counter
from dataclasses import asdict

import pytest
import torch
from torch import nn

from asr_course.ablation import TRAINING
from asr_course.claims import (
    KINDS,
    VERDICTS,
    Claim,
    counts,
    format_tally,
    ledger,
    page,
    tally,
    trained,
    words,
)
from asr_course.claims.tools import agrees, gaps, listed, span
from asr_course.errors import UserError
from asr_course.models import ABLATIONS, count_parameters
from asr_course.records import DATA, load_record, paper_rows

PAPERS = list(words.FACTS)

# Counts


@pytest.mark.parametrize(
    "macs, shown",
    [
        (1_651_000_000_000, 1.651),
        (1_000_000_000_000, 1),
        (512_000_000_000, 0.5),  # 512 G / 1024
        (204_800_000_000, 0.2),
        (0, 0),
    ],
)
def test_units_of_diif_s_tables(macs, shown):
    """T as T, and what is below in G / 1024."""
    assert counts.table_unit(macs) == pytest.approx(shown)


def test_the_unit_changes_at_one_t():
    assert counts.table_unit(10**12 - 1) == pytest.approx(1000 / 1024)


@pytest.mark.parametrize(
    "value, printed, holds",
    [
        (0.125, "0.12", True),  # half a digit either way
        (0.125, "0.13", True),
        (0.1251, "0.12", False),
        (0.1249, "0.13", False),
        (0.1151, "0.12", True),
        (0.1149, "0.12", False),
        (456.5, "457", True),
        (456.4, "457", False),
        (5.1172, "5.117", True),
        (5.1176, "5.117", False),
        (0.2, "0.200", True),
        (0.2004, "0.200", True),
        (0.2006, "0.200", False),
        (-0.125, "-0.12", True),
    ],
)
def test_as_printed(value, printed, holds):
    assert counts.as_printed(value, printed) is holds


@pytest.mark.parametrize(
    "method, expected",
    [
        ("DIIF(cs) [Table 4]", ("DIIF", "cs")),
        ("DIIF(w/o-ds) [Table 4]", ("DIIF", "w/o-ds")),
        ("DIIF(c4+f3) [Table 4]", ("DIIF", "c4+f3")),
        ("LIIF [Table 3]", ("LIIF", "")),
        ("EDSR-baseline", ("EDSR-baseline", "")),
    ],
)
def test_split(method, expected):
    assert counts.split(method) == expected


@pytest.mark.parametrize("scale, doublings", [(2, 1), (4, 2), (8, 3), (16, 4)])
def test_parameters_of_a_tail_by_hand(scale, doublings):
    """A stage: 256 filters of 3 x 3 x 64 and a bias each. RGB: 3 of them."""
    stage, rgb = 256 * (9 * 64 + 1), 3 * (9 * 64 + 1)
    assert counts.tail_parameters(scale) == doublings * stage + rgb


def test_parameters_of_a_tail_are_those_of_its_layers():
    stages = [nn.Conv2d(64, 256, 3, padding=1) for _ in range(4)]
    layers = nn.ModuleList([*stages, nn.Conv2d(64, 3, 3, padding=1)])
    assert counts.tail_parameters(16) == count_parameters(layers) == 592_579


def test_models_of_the_paper_s_size_take_no_memory():
    model = counts.model_of("diif", "edsr-baseline", "c2+f5")
    assert {p.device for p in model.parameters()} == {torch.device("meta")}
    assert len(model.options.fine) > len(counts.model_of("diif", "rdn").options.fine)


def counted() -> list[Claim]:
    return counts.cost_claims() + counts.parameter_claims()


# What the definitions in the papers, as read here, do not give.
OPEN = {
    ("RDN on RDN, 160x90 input, ×16", "0.492"),
    ("LIIF on EDSR-baseline, 320x180 input, ×12", "11.55"),
    ("LTE on EDSR-baseline, 320x180 input, ×24", "26.32"),
    ("DIIF on EDSR-baseline, 320x180 input, ×2", "0.28"),
    ("DIIF(w/o-ds) on EDSR-baseline, 160x90 input, ×16", "1.328"),
}


def test_five_counts_are_open_and_no_others():
    found = {
        (claim.claim.split(":")[0], claim.printed)
        for claim in counted()
        if claim.verdict == "not reproduced"
    }
    assert found == OPEN


def test_what_was_fitted_proves_nothing():
    """DIIN's four parameter counts made our layer, so they do not confirm it."""
    found = [c for c in counted() if c.verdict == "not checkable here"]
    assert [(c.paper, c.printed) for c in found] == [
        ("DIIN", printed) for printed in ("2.2", "2.7", "3.2", "3.7")
    ]
    for claim in found:
        assert counts.as_printed(float(claim.ours.split(",")[0]), claim.printed)


# Signs


@pytest.mark.parametrize(
    "printed, ours, holds",
    [
        (0.05, [0.1, 0.02, 0.3], True),
        (0.05, [0.1, -0.02, 0.3], False),
        (0.05, [0.1, 0.0, 0.3], False),
        (0.05, [-0.1, -0.2, -0.3], False),
        (-0.05, [-0.1, -0.2, -0.3], True),
        (-0.05, [0.1, 0.2, 0.3], False),
        # The paper prints a tie: zero within one standard deviation of ours.
        (0.0, [0.02, -0.03, 0.0], True),
        (0.01, [-0.1, 0.1, 0.05], True),
        (0.01, [0.1, 0.11, 0.12], False),
        (-0.01, [-0.1, -0.11, -0.12], False),
        (0.0, [0.005, 0.005, 0.005], True),  # ours is a tie itself
        (0.0, [0.02, 0.02, 0.02], False),
        # The smallest printed gap that is none.
        (0.02, [0.001, 0.001, 0.001], True),
        (0.02, [0.001, -0.001, 0.001], False),
        (0.05, [], False),  # no runs are on no side
    ],
)
def test_same_side(printed, ours, holds):
    assert trained.same_side(printed, ours, trained.TIE["PSNR"]) is holds


def test_a_tie_of_ssim_is_in_its_own_last_digit():
    assert trained.same_side(0.0001, [0.001, -0.001], trained.TIE["SSIM"])
    assert not trained.same_side(0.0002, [0.001, -0.001], trained.TIE["SSIM"])


def test_printed_hundredths_are_ties_in_floating_point():
    """38.18 - 38.17 is not 0.01 to the last bit, and neither is 38.17 - 38.18."""
    for a, b in ((38.18, 38.17), (38.17, 38.18), (29.01, 29.0), (34.68, 34.67)):
        assert abs(a - b) <= trained.TIE["PSNR"] < abs(a - b) + 0.005


@pytest.mark.parametrize(
    "method, table, expected",
    [
        ("DIINN(a)[m]IP=Yes [Table 5]", "Table 5", "DIINN(a)"),
        ("DIINN(f)[s,z]IP=No [Table 5]", "Table 5", "DIINN(f)"),
        ("DIIF(w/o-ds) [Table 4]", "Table 4", "DIIF(w/o-ds)"),
        ("DIIF [Table 4]", "Table 4", "DIIF"),
        ("DIIN(-c) [Table 3]", "Table 3", "DIIN(-c)"),
        ("DIIN(N=2) [Table 4]", "Table 4", "DIIN(N=2)"),
        ("LIIF [Table 4]", "Table 4", "LIIF"),
    ],
)
def test_variant_of(method, table, expected):
    assert trained.variant_of(method, table) == expected


def test_signed_shows_mean_and_deviation_with_a_sign():
    assert trained.signed([0.1, 0.2, 0.3], 2) == "+0.20 ± 0.10"
    assert trained.signed([-0.001, -0.003], 4) == "-0.0020 ± 0.0014"


def test_variants_of_ours_exist():
    for name, variant in trained.NAMES.items():
        method = re.split(r"\(", name)[0].lower()
        assert variant in [*ABLATIONS[method], *TRAINING], name


def seeds_of(scores: dict, asked: list | None = None):
    """A `seed_scores` that knows {method: scores} and writes down what is asked."""

    def seed_scores(name, *what):
        if asked is not None:
            asked.append((name, *what))
        return scores[name]

    return seed_scores


def ordering(monkeypatch, printed, liif, scores, metric="PSNR", protocol="liif"):
    """The claim for one cell of a made-up table, where LIIF has `liif`."""
    row = {"paper": "DIIN", "method": "DIIN", "encoder": "RDN", "dataset": "Set5"}
    row |= {"train_set": "DIV2K", "channel": "Y", "scale": "x3", "metric": metric}
    liif_row = {**row, "method": "LIIF", "value": str(liif)}
    known = [liif_row, {**row, "value": str(printed)}]

    def rows(**where):
        return [r for r in known if all(r[k] == v for k, v in where.items())]

    asked = []
    monkeypatch.setattr(trained, "paper_rows", rows)
    monkeypatch.setattr(trained, "seed_scores", seeds_of(scores, asked))
    return trained.ordering_claim(known[1], protocol), asked


ABOVE, BELOW = [3.3, 3.4, 3.5], [3.0, 3.1, 3.2]
MIXED = [2.95, 3.15, 3.4]


@pytest.mark.parametrize(
    "printed, ours, verdict",
    [
        (34.2, ABOVE, "reproduced"),
        (34.2, MIXED, "not at this scale"),
        (33.8, ABOVE, "not at this scale"),
        (34.01, MIXED, "reproduced"),  # a tie there, and not apart here
        (34.01, ABOVE, "not at this scale"),
        (34.0, MIXED, "reproduced"),
        (34.02, ABOVE, "reproduced"),
    ],
)
def test_an_ordering_holds_if_every_seed_beats_every_seed(
    printed, ours, verdict, monkeypatch
):
    scores = {"diin": ours, "liif": BELOW}
    claim, _ = ordering(monkeypatch, printed, 34.0, scores)
    assert claim.verdict == verdict
    assert claim.printed == f"{printed - 34:+.2f} dB"


def test_an_ordering_downwards_can_hold_too(monkeypatch):
    scores = {"diin": BELOW, "liif": ABOVE}
    claim, _ = ordering(monkeypatch, 33.8, 34.0, scores)
    assert claim.verdict == "reproduced"
    assert (claim.printed, claim.ours) == ("-0.20 dB", "-0.30 ± 0.00 dB")


def test_an_ordering_says_what_is_compared(monkeypatch):
    scores = {"diin": [3.4, 3.3, 3.5], "liif": BELOW}
    claim, asked = ordering(monkeypatch, 34.2, 34.0, scores)
    assert asked == [(name, "set5", 3, "psnr_y", "liif") for name in ("diin", "liif")]
    assert (claim.paper, claim.kind) == ("DIIN", "ordering")
    assert claim.claim == "DIIN less LIIF, PSNR, Set5 ×3"
    assert claim.ours == "+0.30 ± 0.10 dB"  # seed by seed: 0.4, 0.2 and 0.3


@pytest.mark.parametrize(
    "metric, protocol, measure",
    [
        ("PSNR", "liif", "psnr_y"),
        ("PSNR", "diinn", "psnr_rgb"),
        ("SSIM", "diinn", "ssim"),
        ("LR-PSNR", "diinn", "lr_psnr"),
    ],
)
def test_measures_of_orderings(metric, protocol, measure, monkeypatch):
    scores = {"diin": ABOVE, "liif": BELOW}
    claim, asked = ordering(monkeypatch, 0.95, 0.94, scores, metric, protocol)
    assert {call[3:] for call in asked} == {(measure, protocol)}
    assert claim.printed == ("+0.0100" if metric == "SSIM" else "+0.01 dB")


ROW = {"paper": "DIIF", "dataset": "DIV2K-val", "channel": "RGB", "metric": "PSNR"}
BASE = {("x4", "PSNR"): 29.0, ("x12", "PSNR"): 24.0}


def ablation(monkeypatch, method, value, gap, scale="x4"):
    """The claim for a number of a made-up Table 4 where our variant gains `gap`."""
    asked = []

    def effect(*what):
        asked.append(what)
        return gap

    monkeypatch.setattr(trained, "effect", effect)
    row = {**ROW, "method": f"{method} [Table 4]", "scale": scale, "value": value}
    about = ("Table 4", BASE, "DIIF", "some_record", "full")
    return trained.ablation_claim(row, *about), asked


@pytest.mark.parametrize(
    "value, gap, verdict",
    [
        ("28.95", [-0.1, -0.2, -0.3], "reproduced"),
        ("28.95", [-0.1, -0.2, 0.1], "not at this scale"),
        ("29.05", [-0.1, -0.2, -0.3], "not at this scale"),
        ("29.00", [-0.1, 0.1, 0.0], "reproduced"),
        ("29.00", [-0.1, -0.1, -0.11], "not at this scale"),
    ],
)
def test_an_ablation_holds_if_all_seeds_are_on_the_paper_s_side(
    value, gap, verdict, monkeypatch
):
    claim, _ = ablation(monkeypatch, "DIIF(cs)", value, gap)
    assert claim.verdict == verdict
    assert claim.printed == f"{value} dB, {float(value) - 29:+.2f} from DIIF"


def test_an_ablation_is_compared_at_the_nearest_scale(monkeypatch):
    """Larger ones than in training with ours at x8."""
    gap = [-0.1, -0.2, -0.3]
    claim, asked = ablation(monkeypatch, "DIIF(cs)", "28.9", gap)
    assert asked == [("some_record", "cs", "full", 4, "psnr_y")]
    assert claim.ours == "-0.20 ± 0.10 at ×4"
    claim, asked = ablation(monkeypatch, "DIIF(cs)", "23.9", gap, "x12")
    assert asked[0][3] == 8
    assert claim.ours == "-0.20 ± 0.10 at ×8" and "at ×12 on DIV2K" in claim.claim


def test_a_reference_is_not_checkable(monkeypatch):
    claim, asked = ablation(monkeypatch, "DIIF", "29.0", [])
    assert claim.verdict == "not checkable here" and not asked
    assert claim.printed == "29.0"


def test_some_variants_have_a_record_of_their_own(monkeypatch):
    gap = [-0.1, -0.2, -0.3]
    claim, asked = ablation(monkeypatch, "DIIF(x4-only)", "28.9", gap)
    assert asked == [("diif_x4", "x4-only", "full", 4, "psnr_y")]
    assert claim.evidence == "diif_x4"
    claim, _ = ablation(monkeypatch, "DIIF(cs)", "28.9", gap)
    assert claim.evidence == "some_record"


def test_liif_in_an_ablation_table_is_our_liif(monkeypatch):
    """Method less method, seed by seed, on Set14."""
    scores, asked = {"liif": BELOW, "diif": ABOVE}, []
    monkeypatch.setattr(trained, "seed_scores", seeds_of(scores, asked))
    claim, _ = ablation(monkeypatch, "LIIF", "28.9", [])
    assert claim.verdict == "reproduced" and claim.ours == "-0.30 ± 0.00 at ×4"
    assert asked == [("liif", "set14", 4), ("diif", "set14", 4)]


def test_effects_are_taken_seed_by_seed(monkeypatch):
    rows = [
        {"variant": variant, "scale": 4, "seed": seed}
        | {"psnr_y": psnr, "ssim": 0.5, "lr_psnr": 40.0}
        for variant, seed, psnr in [
            *(("cs", 1, 29.5), ("full", 0, 29.0), ("full", 1, 30.0), ("cs", 0, 29.25)),
        ]
    ]
    monkeypatch.setattr(trained, "load_record", lambda name: {"rows": rows})
    trained.scores_of.cache_clear()
    try:
        assert trained.effect("x", "cs", "full", 4, "psnr_y") == [0.25, -0.5]
        assert trained.effect("x", "cs", "full", 4, "ssim") == [0, 0]
    finally:
        trained.scores_of.cache_clear()


# Claims and their words

CLAIM = Claim("IDM", "§3", "words", "It draws", "", "", "reproduced", "a test")


def test_a_claim_has_one_of_five_verdicts():
    for verdict in VERDICTS:
        Claim(**{**asdict(CLAIM), "verdict": verdict})
    assert len(VERDICTS) == 5
    with pytest.raises(UserError, match="verdict 'reproducd'.*Did you mean 'reprod"):
        Claim(**{**asdict(CLAIM), "verdict": "reproducd"})


def test_what_was_looked_at_is_reproduced_or_not_seen():
    assert agrees(True) == agrees(True, "not reproduced") == "reproduced"
    assert agrees(False) == "not at this scale"
    assert agrees(False, "not reproduced") == "not reproduced"


def test_numbers_of_tables_in_words():
    found = gaps({"x2": 34.68, "x3": 31.0, "x4": 29.0}, {"x2": 34.67, "x4": 29.05})
    assert found == {"x2": 0.01, "x4": -0.05}
    assert listed(found) == "×2 +0.01, ×4 -0.05"
    assert span([0.3, -0.12, 0.1]) == "-0.12 to +0.30"


FILLED = {
    "place": "§4",
    "claim": "Is better",
    "printed": "by {gap:.2f} dB",
    "ours": "by {ours} dB",
    "holds": "is_better",
    "verdict": "not at this scale",
    "evidence": "some_record",
}
KNOWN = {"gap": 0.123, "ours": "0.05", "is_better": True, "is_worse": False}


def test_facts_are_filled_in():
    claim = words.filled("DIIF", FILLED, KNOWN)
    assert asdict(claim) == {
        "paper": "DIIF",
        "place": "§4",
        "kind": "words",
        "claim": "Is better",
        "printed": "by 0.12 dB",
        "ours": "by 0.05 dB",
        "verdict": "reproduced",
        "evidence": "some_record",
    }


def test_a_claim_that_does_not_hold_keeps_its_verdict():
    claim = words.filled("DIIF", {**FILLED, "holds": "is_worse"}, KNOWN)
    assert claim.verdict == "not at this scale"


def test_a_claim_without_a_fact_to_decide_keeps_its_verdict():
    row = {key: text for key, text in FILLED.items() if key != "holds"}
    assert words.filled("DIIF", row, KNOWN).verdict == "not at this scale"
    for key in ("printed", "ours", "evidence"):
        del row[key]
    claim = words.filled("DIIF", row, {})
    assert (claim.printed, claim.ours) == ("", "")
    assert claim.evidence == "the paper's tables"


@pytest.mark.parametrize("key", ["printed", "ours", "holds"])
def test_an_unknown_fact_is_an_error(key):
    text = "is_beter" if key == "holds" else "by {gapp} dB"
    with pytest.raises(KeyError):
        words.filled("DIIF", {**FILLED, key: text}, KNOWN)


def test_a_verdict_that_there_is_not_is_refused():
    row = {**FILLED, "holds": "is_worse", "verdict": "maybe"}
    with pytest.raises(UserError, match="unknown verdict 'maybe'"):
        words.filled("DIIF", row, KNOWN)


def test_every_paper_has_its_file_and_no_other_is_there():
    found = {path.stem for path in (DATA / "claims").iterdir()}
    assert found == {paper.lower() for paper in PAPERS}


def written(paper: str) -> list[dict[str, str]]:
    """The claims of a paper as they are written."""
    return tomllib.loads((DATA / "claims" / f"{paper.lower()}.toml").read_text())[
        "claim"
    ]


NEEDED = {"claim", "place", "printed", "ours", "verdict"}


@pytest.mark.parametrize("paper", PAPERS)
def test_claims_are_written_as_they_should_be(paper):
    rows = written(paper)
    assert rows
    assert len({(row["place"], row["claim"]) for row in rows}) == len(rows)
    for row in rows:
        assert row.keys() >= NEEDED, row["claim"]
        assert row.keys() <= NEEDED | {"holds", "evidence"}, row["claim"]
        assert 1 <= len(row["claim"].split()) <= 25, row["claim"]
        assert row["place"] and row["verdict"] in VERDICTS
        assert row["verdict"] != "reproduced" or "holds" not in row, row["claim"]
        for text in row.values():
            assert text == text.strip() and not re.search(r"[|\n]", text), text
            assert not re.search(r"\bto-?\s?do\b", text, re.I), text


@pytest.mark.parametrize("paper", PAPERS)
def test_claims_name_facts_that_there_are(paper):
    """Those that decide are true or false, and no table is broken by what is said."""
    known = words.FACTS[paper]()
    for row in written(paper):
        assert type(known.get(row.get("holds"), True)).__name__ in ("bool", "bool_")
        claim = words.filled(paper, row, known)
        for text in asdict(claim).values():
            assert not re.search(r"[|\n{}]|nan|None", text), text


# The ledger


def test_tally_by_hand():
    rows = [asdict(CLAIM)] * 2 + [{**asdict(CLAIM), "paper": "DIIF"}]
    rows.append({**asdict(CLAIM), "verdict": "not at this scale"})
    assert tally(rows) == {
        ("IDM", "reproduced"): 2,
        ("DIIF", "reproduced"): 1,
        ("IDM", "not at this scale"): 1,
    }
    head, *lines = format_tally(rows).splitlines()
    assert head.split() == ["DIIF", "IDM"]
    assert [line[:40].strip() for line in lines] == list(VERDICTS)
    found = {line[:40].strip(): line[40:].split() for line in lines}
    assert found["reproduced"] == ["1", "2"]
    assert found["not at this scale"] == ["0", "1"]


def test_the_page_has_every_row_under_its_paper_and_kind():
    rows = [
        {**asdict(CLAIM), "paper": paper, "kind": kind, "claim": f"{paper} {kind}"}
        for paper in ("IDM", "DIIF")
        for kind in reversed(KINDS)
    ]
    lines = page(rows).splitlines()
    heads = [line for line in lines if line.startswith("## ")]
    assert heads == ["## DIIF", "## IDM"]
    titles = [line[4:] for line in lines if line.startswith("### ")]
    assert titles == [*KINDS.values()] * 2
    cells = [line for line in lines if line.startswith("| ") and "reproduced" in line]
    assert [line.split(" | ")[0] for line in cells] == [
        f"| {paper} {kind}" for paper in ("DIIF", "IDM") for kind in KINDS
    ]
    assert all(line.count("|") == 6 for line in cells)


@pytest.fixture(scope="module")
def numbers() -> list[dict[str, str]]:
    """The ledger without what is said in words and without orderings."""
    return list(map(asdict, counted() + trained.ablation_claims()))


KIND = {
    "Params_M": "parameters",
    "Params_wo_encoder_K_as_printed": "parameters",
    "MACs_T_as_printed": "multiplications",
    "PSNR": "ablation",
    "SSIM": "ablation",
    "LR-PSNR": "ablation",
}
TABLES = {
    "DIIF": ["[Table 4]"],
    "DIIN": ["[Table 3]", "[Table 4]"],
    "DIINN": ["[Table 5]"],
}


def belongs_in(row: dict[str, str]) -> bool:
    """Whether a printed number can be counted or is one of an ablation."""
    kind = KIND.get(row["metric"])
    in_table = any(row["method"].endswith(t) for t in TABLES.get(row["paper"], ()))
    return bool(kind) and (kind != "ablation" or in_table)


def is_about(claim: dict[str, str], row: dict[str, str]) -> bool:
    """Whether a row of the ledger is about a number of a paper's table."""
    kind = KIND[row["metric"]]
    name, letters = re.match(r"([\w-]+)(?:\(([^)]*)\))?", row["method"]).groups()
    full = f"{name}({letters})" if letters else name
    needed = [full if full in claim["claim"] else letters or full]
    table = re.search(r"\[(Table \d)\]", row["method"])
    if row["scale"] != "-":
        needed += ["×" + row["scale"][1:], row["dataset"]]
    if kind == "ablation":
        needed.append(row["metric"])
    if row["encoder"] != "-" and kind == "multiplications":
        needed.append(f"on {row['encoder']}")
    return (
        (claim["paper"], claim["kind"]) == (row["paper"], kind)
        and re.split(r"[ ,]", claim["printed"])[0] == row["value"]
        and claim["place"] == (table[1] if table else "Table 1")
        and all(
            re.search(rf"(?<![\w.(]){re.escape(word)}(?![\w.(])", claim["claim"])
            for word in needed
        )
    )


def test_no_printed_number_is_missing(numbers):
    rows = [row for row in paper_rows() if belongs_in(row)]
    missing = [row for row in rows if not any(is_about(c, row) for c in numbers)]
    assert missing == []


def test_no_number_stands_there_twice_and_none_is_made_up(numbers):
    rows = [row for row in paper_rows() if belongs_in(row)]
    assert len(numbers) == len(rows)
    again = Counter((c["paper"], c["place"], c["claim"]) for c in numbers)
    assert max(again.values()) == 1


def test_every_number_of_ours_is_a_number(numbers):
    for claim in numbers:
        assert claim["ours"] and not re.search(r"nan|inf", claim["ours"]), claim


def test_the_tables_have_as_many_numbers_as_the_papers():
    """DIIF's Table 4 has 8 lines of 8 scales, DIINN's Table 5 6 of 3 times 3."""
    rows = [row for row in paper_rows() if belongs_in(row)]
    found = Counter((row["paper"], KIND[row["metric"]]) for row in rows)
    assert found == {
        ("DIIF", "parameters"): 12 + 5 + 8,
        ("DIIF", "multiplications"): 12 + 5 * 7 + 8,
        ("DIIF", "ablation"): 8 * 8,
        ("DIIN", "parameters"): 4,
        ("DIIN", "ablation"): 5 * 6 + 4 * 3,
        ("DIINN", "ablation"): 6 * 3 * 3,
    }


def test_the_recorded_ledger_is_fresh():
    assert ledger() == load_record("claims")["rows"], (
        "stale: python -m asr_course claims --json data/results/claims.json"
    )
