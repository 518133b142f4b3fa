"""Ablations and orderings: the papers' differences in quality beside ours.

The papers train for up to a million steps on DIV2K and score on DIV2K, Urban100 and
others; ours are small models, and what is compared is the sign of a difference, scale
by scale. Ablations: all three seeds must be on the paper's side. Orderings: every seed
of one method must be above every seed of the other. Where the paper itself prints a
tie (0.01 dB or less), ours must be one too: zero within one standard deviation.
"""

from collections.abc import Sequence
from functools import cache

from asr_course.claims.tools import NOT_CHECKABLE, Claim, agrees
from asr_course.compare import seed_scores, separated
from asr_course.exam import spread
from asr_course.records import load_record, paper_rows

TIE = {"PSNR": 0.0101, "SSIM": 0.000101, "LR-PSNR": 0.0101}
MEASURES = {"PSNR": "psnr_y", "SSIM": "ssim", "LR-PSNR": "lr_psnr"}
# The scale of ours that a printed scale is compared with.
NEAREST = {"x2": 2, "x3": 3, "x3.14": 3, "x4": 4}
OUTSIDE = 8  # for all that are larger than any scale in training
ABLATED = (2, 3, 4, 8)  # scales of our ablations
TESTED = (2, 3, 4, 6, 8, 12)  # whole scales of our test sets
SETS = {"Set5": "set5", "Set14": "set14"}
NAMES = {  # a row of a paper's ablation table, and the variant of ours
    "DIIF(w/o-ds)": "w/o ds",
    "DIIF(w/o-se)": "w/o se",
    "DIIF(cs)": "cs",
    "DIIF(c4+f3)": "c4+f3",
    "DIIF(c2+f5)": "c2+f5",
    "DIIN(-c)": "-c",
    "DIIN(-p)": "-p",
    "DIIN(-a)": "-a",
    "DIIN(-d)": "-d",
    "DIIN(N=1)": "N=1",
    "DIIN(N=3)": "N=3",
    "DIIN(N=4)": "N=4",
    "DIIF(x4-only)": "x4-only",
    **{f"DIINN({x})": f"({x})" for x in "abcde"},
}
# Variants with a record of their own.
ELSEWHERE = {"DIIF(x4-only)": "diif_x4", "DIIN(N=4)": "diin_depth"}
TABLES = (  # paper, table, its reference, our record, our reference
    ("DIIF", "Table 4", "DIIF", "diif_ablation", "full"),
    ("DIIN", "Table 3", "DIIN", "diin_ablation", "full"),
    ("DIIN", "Table 4", "DIIN(N=2)", "diin_ablation", "full"),
    ("DIINN", "Table 5", "DIINN(f)", "diinn_ablation", "(f)"),
)


def variant_of(method: str, table: str) -> str:
    """ "DIINN(a)[m]IP=Yes [Table 5]" as "DIINN(a)"."""
    name = method.removesuffix(f" [{table}]")
    return name.split(")")[0] + ")" if "(" in name else name


@cache
def scores_of(record: str) -> dict[tuple, float]:
    """A record of `ablate`: {(variant, scale, seed, measure): score}."""
    return {
        (row["variant"], row["scale"], row["seed"], measure): row[measure]
        for row in load_record(record)["rows"]
        for measure in MEASURES.values()
    }


def effect(
    record: str, variant: str, reference: str, scale: float, measure: str
) -> list[float]:
    """variant - reference, seed by seed."""
    score = scores_of(record)
    seeds = sorted({key[2] for key in score if key[0] == variant})
    return [
        score[variant, scale, k, measure] - score[reference, scale, k, measure]
        for k in seeds
    ]


def same_side(printed: float, ours: Sequence[float], tie: float) -> bool:
    """Whether all of our differences lie where the paper's lies."""
    if abs(printed) <= tie:
        found = spread(ours)
        return abs(found["mean"]) <= max(found["std"], tie)
    return len(ours) > 0 and all(value * printed > 0 for value in ours)


def signed(values: Sequence[float], digits: int) -> str:
    """Differences as mean ± standard deviation."""
    found = spread(values)
    return f"{found['mean']:+.{digits}f} ± {found['std']:.{digits}f}"


def ablation_claims() -> list[Claim]:
    """Every number in the papers' ablation tables, as a difference from the whole."""
    claims = []
    for paper, table, reference, record, own in TABLES:
        rows = [
            r
            for r in paper_rows(paper=paper)
            if table in r["method"] and r["metric"] in MEASURES
        ]
        base = {
            (r["scale"], r["metric"]): float(r["value"])
            for r in rows
            if variant_of(r["method"], table) == reference
        }
        for row in rows:
            claims.append(ablation_claim(row, table, base, reference, record, own))
    return claims


def ablation_claim(row, table, base, reference, record, own) -> Claim:
    """One number of an ablation table."""
    name, metric = variant_of(row["method"], table), row["metric"]
    digits = 4 if metric == "SSIM" else 2
    unit = "" if metric == "SSIM" else " dB"
    scale = NEAREST.get(row["scale"], OUTSIDE)
    where = f"{metric} of {name} at ×{row['scale'][1:]} on {row['dataset']}"
    if name == reference:
        ours, verdict = "needs its data and its training", NOT_CHECKABLE
        printed = row["value"]
    else:
        gap = float(row["value"]) - base[row["scale"], metric]
        printed = f"{row['value']}{unit}, {gap:+.{digits}f} from {reference}"
        if name == "LIIF":
            values, record = between("liif", "diif", scale), records("liif", "diif")
        else:
            record = ELSEWHERE.get(name, record)
            values = effect(record, NAMES[name], own, scale, MEASURES[metric])
        ours = f"{signed(values, digits)} at ×{scale}"
        verdict = agrees(same_side(gap, values, TIE[metric]))
    return Claim(row["paper"], table, "ablation", where, printed, ours, verdict, record)


def records(*names: str) -> str:
    """Where all seeds of some methods are recorded."""
    return ", ".join(f"{name}_scores, {name}_seeds" for name in names)


def between(a: str, b: str, scale: float, data="set14") -> list[float]:
    """Method a less method b in dB on Y, seed by seed."""
    pairs = zip(seed_scores(a, data, scale), seed_scores(b, data, scale), strict=True)
    return [x - y for x, y in pairs]


# Orderings ----------------------------------------------------------------------------

LINES = (  # paper, method, channel, our protocol, its measures
    ("DIINN", "DIINN", "RGB", "diinn", ("PSNR", "SSIM", "LR-PSNR")),
    ("DIIF", "DIIF", "Y(as LIIF)", "liif", ("PSNR",)),
    ("DIIN", "DIIN", "Y", "liif", ("PSNR",)),
)


def ordering_claims() -> list[Claim]:
    """Each method against LIIF where the paper and we have the same test set."""
    claims = []
    for paper, method, channel, protocol, metrics in LINES:
        for row in paper_rows(
            paper=paper, method=method, encoder="RDN", channel=channel
        ):
            if row["dataset"] in SETS and row["metric"] in metrics:
                claims.append(ordering_claim(row, protocol))
    return claims


def ordering_claim(row: dict[str, str], protocol: str) -> Claim:
    """One cell of a paper's main table, less LIIF's."""
    same = {k: v for k, v in row.items() if k != "value"}
    [liif] = paper_rows(**{**same, "method": "LIIF"})
    gap = float(row["value"]) - float(liif["value"])
    metric, scale, data = row["metric"], float(row["scale"][1:]), SETS[row["dataset"]]
    measure = MEASURES[metric]
    if protocol == "diinn" and measure == "psnr_y":
        measure = "psnr_rgb"
    names = row["method"].lower(), "liif"
    ours, base = (seed_scores(n, data, scale, measure, protocol) for n in names)
    digits, unit = (4, "") if metric == "SSIM" else (2, " dB")
    differences = [a - b for a, b in zip(ours, base, strict=True)]
    if abs(gap) <= TIE[metric]:
        holds = separated(ours, base) == 0
    else:
        holds = separated(ours, base) * gap > 0
    return Claim(
        row["paper"],
        "main tables, RDN",
        "ordering",
        f"{row['method']} less LIIF, {metric}, {row['dataset']} ×{scale:g}",
        f"{gap:+.{digits}f}{unit}",
        f"{signed(differences, digits)}{unit}",
        agrees(holds),
        records(*names),
    )


# For sentences ------------------------------------------------------------------------


def sides(name: str, rivals: Sequence[str], scales=TESTED) -> list[int]:
    """A method of ours against others: 1 above, -1 below, 0 not apart, for each rival,
    set and scale."""
    return [
        separated(seed_scores(name, data, s), seed_scores(rival, data, s))
        for rival in rivals
        for data in SETS.values()
        for s in scales
    ]


def tallied(found: Sequence[int]) -> str:
    """Those as text."""
    return (
        f"above in {found.count(1)} of {len(found)} cells, below in "
        f"{found.count(-1)}, else not apart"
    )


def ours(record: str, variant: str, reference: str, measure="psnr_y") -> str:
    """Our ablation, a variant less another, all scales."""
    found = {s: effect(record, variant, reference, s, measure) for s in ABLATED}
    return ", ".join(f"×{s} {signed(gap, 2)}" for s, gap in found.items())


def above(
    record: str, variant: str, reference: str, scales=ABLATED, measure="psnr_y"
) -> bool:
    """Whether a variant is above another in every seed at every scale."""
    found = [effect(record, variant, reference, s, measure) for s in scales]
    return all(gap > 0 for seeds in found for gap in seeds)
