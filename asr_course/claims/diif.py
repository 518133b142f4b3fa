"""Facts about DIIF's claims, from its tables, our counts and our records."""

from math import prod

from asr_course.claims.counts import model_of, table_unit
from asr_course.claims.tools import column, gaps, jumps, listed, span
from asr_course.claims.trained import NAMES, between, effect, signed
from asr_course.compare import seed_scores, separated
from asr_course.coords import make_cell, make_coord, output_size
from asr_course.models import count_parameters
from asr_course.models.diif import cut
from asr_course.profiling import macs_paper, weights
from asr_course.records import load_record, paper_rows

EDSR, RDN = "edsr-baseline", "rdn"
PAIRS = {"DIIF": "LIIF", "DLTE": "LTE"}  # made fast, and what from
OTHERS = ("MetaSR", "LIIF", "LTE")
MACS, SECONDS = "MACs_T_as_printed", "Runtime_s_RTX2080Ti"
SIZE = (90, 160)  # rows and columns of the input; shares of a cost need no other
SCALES = (2, 3, 4, 6, 12, 16, 18, 24, 30)  # of all its tables
VARIANTS = {"ds": "w/o-ds", "se": "w/o-se", "cs": "cs", "x4": "x4-only"}
VARIANTS |= {"c4": "c4+f3", "f5": "c2+f5"}  # rows of Table 4


# The paper's tables -------------------------------------------------------------------


def over(method: str, rival: str, table: int) -> dict[tuple, float]:
    """method - rival in dB, cell by cell of Table 1 (DIV2K) or 2 (three other sets)."""
    cells = [
        {
            (row["encoder"], row["dataset"], row["scale"]): float(row["value"])
            for row in paper_rows(paper="DIIF", method=name, metric="PSNR")
            if (row["dataset"] == "DIV2K-val") == (table == 1)
        }
        for name in (method, rival)
    ]
    return gaps(*cells)


def ablated(variant: str, base="DIIF") -> dict[str, float]:
    """A row of Table 4 less another, DIIF's own if none is named."""
    row = column(f"DIIF({VARIANTS[variant]}) [Table 4]")
    return gaps(row, column(f"{base} [Table 4]"))


def macs_3(method: str) -> dict[str, float]:
    """Multiplications of Table 3, in its T."""
    return column(f"{method} [Table 3]", MACS)


def seconds_3(method: str) -> dict[str, float]:
    """Running times of Table 3."""
    return column(f"{method} [Table 3]", SECONDS)


def printed_4(metric: str, scale: str) -> dict[str, float]:
    """A column of Table 4: DIIF's "full", its variants, and "LIIF"."""
    rows = {key: f"DIIF({row})" for key, row in VARIANTS.items()}
    rows |= {"full": "DIIF", "LIIF": "LIIF"}
    return {k: column(f"{row} [Table 4]", metric)[scale] for k, row in rows.items()}


def table_1(metric: str, scale: str, encoder="EDSR-baseline") -> dict[str, float]:
    """A column of Table 1, of the methods for any scale."""
    names = (*PAIRS, *OTHERS)
    return {name: column(name, metric, encoder=encoder)[scale] for name in names}


def ratio(a: dict, b: dict) -> dict:
    """a / b, scale by scale."""
    return {key: a[key] / b[key] for key in a}


# Counts -------------------------------------------------------------------------------


def macs(name: str, scale: float, encoder=EDSR, variant="") -> int:
    """Multiplications of a model of the paper's size."""
    model = model_of(name.lower(), encoder, VARIANTS.get(variant, ""))
    return macs_paper(model, SIZE, scale)


def saved(name: str, scale: float, encoder=EDSR, rival="") -> float:
    """Per cent that DIIF or DLTE saves, of the method it is made from or another's."""
    theirs = macs(rival or PAIRS[name], scale, encoder)
    return 100 * (1 - macs(name, scale, encoder) / theirs)


def growth(name: str, variant="") -> float:
    """How many times the decoder alone costs more at x24 than at x12."""
    encoder = prod(SIZE) * weights(model_of(name, EDSR, "").encoder)
    far, near = (macs(name, s, EDSR, variant) - encoder for s in (24, 12))
    return far / near


def dearer(variant: str, scale: float) -> float:
    """A variant's multiplications over those of DIIF."""
    return macs("diif", scale, EDSR, variant) / macs("diif", scale)


def coarse(scale: int) -> int:
    """Multiplications of the coarse stage: four corners, scale slices in a group."""
    return 4 * prod(SIZE) * scale * weights(model_of("diif", EDSR, "").coarse)


def at_16(encoder: str, pixel_size: bool) -> float:
    """DIIF's cost in Table 1, if the coarse stage is told 2 / s or not."""
    told = 4 * prod(SIZE) * 16 * 2 * 256  # corners, groups, slices, two numbers
    return table_unit(macs("diif", 16, encoder) - (0 if pixel_size else told))


def parameter_range(encoder: str) -> float:
    """Per cent between the smallest and the largest model of Table 1."""
    models = (model_of(name.lower(), encoder, "") for name in (*PAIRS, *OTHERS))
    found = [count_parameters(model) for model in models]
    return 100 * (max(found) / min(found) - 1)


def slices_of(lr: tuple[int, int], scale: float):
    """The linear slices of a whole picture, and x - v of every pixel."""
    hr = output_size(lr, scale)
    return cut(make_coord(hr)[None], make_cell(hr)[None], lr, "linear")


def at_border(scale: int) -> tuple[float, float]:
    """What changes between the two output pixels beside a border of groups.

    In low-resolution pixels: x - v, which the fine stage reads, and the first pixel of
    the slice, which the coarse stage reads.
    """
    slices, offset = slices_of((1, 2), scale)
    left = scale // 2 * 2 * scale + scale - 1  # in the middle row, left of the border
    a, b = slices.of[left], slices.of[left + 1]
    first = slices.ends[:, 0, 1] + slices.col
    jump = (offset[left + 1, 1] - offset[left, 1]).abs()
    return float(jump), float(first[b] - first[a])


def wrapped(scale: float) -> float:
    """Per cent of linear slices that begin in one row and end in another."""
    slices, _ = slices_of((20, 20), scale)
    down = slices.ends[:, 1, 0] - slices.ends[:, 0, 0]
    return 100 * float((down.abs() > 0.01).float().mean())


# Records ------------------------------------------------------------------------------


def effects(variant: str) -> dict[int, list[float]]:
    """Our variant less our full model in dB: {scale: seed by seed}."""
    record = "diif_x4" if variant == "x4" else "diif_ablation"
    row = VARIANTS[variant]
    name = NAMES.get(f"DIIF({row})", row)
    return {s: effect(record, name, "full", s, "psnr_y") for s in (2, 3, 4, 8)}


def cpu(name: str, kind="cpu_seconds") -> dict[int, float]:
    """Our recorded CPU seconds at paper size, 48 x 48 pixels in, one thread."""
    rows = load_record("profile")["rows"]
    return {r["scale"]: r[kind] for r in rows if r["model"] == name.lower()}


def told(values: dict[int, float | list[float]]) -> str:
    """Ratios, or differences seed by seed, as text."""
    return ", ".join(
        f"×{s} {x:.1f}" if isinstance(x, float) else f"×{s} {signed(x, 2)}"
        for s, x in values.items()
    )


# Facts --------------------------------------------------------------------------------


def quality_facts() -> dict:
    """About dB: the paper's tables and our seeds."""
    (diif, dlte), others = ([over(*p, t) for p in PAIRS.items()] for t in (1, 2))
    lte = [gap for table in (1, 2) for gap in over("DIIF", "LTE", table).values()]
    rivals = [over("DLTE", rival, 1) for rival in ("DIIF", *OTHERS)]
    leads = [min(gap[cell] for gap in rivals) for cell in rivals[0]]
    twelve = [column(f"DIIF{v} [Table 4]")["x12"] for v in ("", "(w/o-se)", "(cs)")]
    ours = {variant: effects(variant) for variant in VARIANTS}
    sides = [
        separated(*(seed_scores(name, "set14", s) for name in ("diif", "liif")))
        for s in (2, 3, 4, 6, 8, 12)
    ]
    return {
        "diif_over_liif": span(list(diif.values())),
        "dlte_ties": sum(gap == 0 for gap in dlte.values()),
        "both_above": min(*diif.values(), *dlte.values()) > 0,
        "cells_1": len(dlte),
        "cells_2": len(others[0]),
        "wins": [sum(gap > 0 for gap in found.values()) for found in others],
        "worst_2": min(min(gap.values()) for gap in others),
        "under_lte": sum(gap < 0 for gap in lte),
        "cells_lte": len(lte),
        "dlte_first": sum(lead > 0 for lead in leads),
        "dlte_level": sum(lead == 0 for lead in leads),
        "above": sides.count(1),
        "below": sides.count(-1),
        "sides": len(sides),
        "liif_30": diif["RDN", "DIV2K-val", "x30"],
        "ours_12": signed(between("diif", "liif", 12), 2),
        "at_12": ", ".join(f"{value:.2f}" for value in twelve),
        "printed": {variant: listed(ablated(variant)) for variant in VARIANTS},
        "ours": {variant: told(found) for variant, found in ours.items()},
        "f5_over_liif": span(list(ablated("f5", "LIIF").values())),
        "se_loses_far": max(ours["se"][8]) < 0,
        "ds_loses_more_far": max(ours["ds"][8]) < min(ours["ds"][2]),
        "cs_loses": max(ablated("cs").values()) < 0,
        "x4_loses": max(ablated("x4").values()) < 0,
        "f5_helps": min(min(gap) for gap in ours["f5"].values()) > 0,
        "stuck": {k: sum(gap < -1 for gap in ours[k][2]) for k in ("c4", "f5")},
    }


def slice_facts() -> dict:
    """About slices and the two stages."""
    diif = model_of("diif", EDSR, "")
    fine, mlp = weights(diif.fine), weights(model_of("liif", EDSR, "").mlp)
    groups = {s: slices_of((1, 1), s)[0] for s in (2, 4, 8)}
    pixels, slices = len(groups[4].of), len(groups[4].row)
    return {
        "pixels": {s: len(found.of) for s, found in groups.items()},
        "slices": slices,
        "as_figure_3": (pixels, slices) == (16, 4),
        "border": {s: at_border(s) for s in (8, 64)},
        "jumps": jumps("diif", "border"),
        "wrapped": [wrapped(s) for s in (2.5, 3.5, 4)],
        "growth": {
            "LIIF": growth("liif"),
            "fixed": growth("diif", "ds"),
            "linear": growth("diif"),
            "constant": growth("diif", "cs"),
            "coarse": coarse(24) / coarse(12),
        },
        "quadratic": growth("liif") == growth("diif", "ds") == 4
        and dearer("ds", 16) > 1,
        "ideal": coarse(24) == 2 * coarse(12),
        "fixed": {s: dearer("ds", s) for s in (2, 16)},
        "share": {s: 100 * coarse(s) / macs("diif", s) for s in (2, 4, 8, 16)},
        "se": {s: 1 / dearer("se", s) for s in (2, 4, 16)},
        "deep": {k: dearer(k, 16) for k in ("c4", "f5")},
        "printed_4": printed_4(MACS, "x16"),
        "size_4": printed_4("Params_wo_encoder_K_as_printed", "-"),
        "fine": fine,
        "mlp": mlp,
        "by_depth": 100 * 2 * 256**2 / (mlp - fine),
        "untold": [at_16(e, pixel_size=False) for e in (EDSR, RDN)],
        "told": [at_16(e, pixel_size=True) for e in (EDSR, RDN)],
        "printed_1": [
            table_1(MACS, "x16", e)["DIIF"] for e in ("EDSR-baseline", "RDN")
        ],
        "sizes_1": span(list(table_1("Params_M", "-").values()), ".3f"),
        "range": [parameter_range(e) for e in (EDSR, RDN)],
        "encoder": 100 * count_parameters(diif.encoder) / count_parameters(diif),
    }


def cost_facts() -> dict:
    """About savings and running times."""
    table = table_1(MACS, "x16")
    shares = [ratio(macs_3(a), macs_3(b)) for a, b in PAIRS.items()]
    printed = [{s: 100 * (1 - x) for s, x in share.items()} for share in shares]
    ours = [{s: saved(name, s) for s in SCALES} for name in PAIRS]
    beyond = [{f"x{s}": x[s] for s in (6, 12, 18, 24)} for x in ours]
    times = [ratio(seconds_3(b), seconds_3(a)) for a, b in PAIRS.items()]
    run = [ratio(cpu(b), cpu(a)) for a, b in PAIRS.items()]
    less = [saved(a, 16, e, b) for a in PAIRS for b in OTHERS for e in (EDSR, RDN)]
    dlte = [saved("DLTE", s, EDSR, m) for s in SCALES for m in ("DIIF", *OTHERS)]
    grown = {m: cpu(m)[16] - cpu(m)[2] for m in ("DIIF", *OTHERS)}
    return {
        "saved": [listed(x, ".1f") for x in printed],
        "saved_ranges": [span(list(x.values()), ".1f") for x in printed],
        "saved_16": [100 * (1 - table[a] / table[b]) for a, b in PAIRS.items()],
        "most_saved": max(printed[0].values()),
        "beyond": [listed(x, ".1f") for x in beyond],
        "saves_70": min(min(x.values()) for x in beyond) >= 70,
        "ranges": [span(list(x.values()), ".1f") for x in ours],
        "share_grows": all(list(x.values()) == sorted(x.values()) for x in ours),
        "counted": {s: [x[s] for x in ours] for s in SCALES},
        "rdn": {s: [saved(name, s, RDN) for name in PAIRS] for s in SCALES},
        "saves_85": round(ours[0][16]) == 85,
        "saves_79": round(ours[1][16]) == 79,
        "saves_87": round(ours[0][30]) == 87,
        "less": span(less, ".0f"),
        "run_16": [x[16] for x in run],
        "less_at_16": min(less) > 33 and min(x[16] for x in run) > 2,
        "times": [listed(x, ".2f") for x in times],
        "run": [told(x) for x in run],
        "run_plain": told(ratio(cpu("LIIF", "plain_cpu_seconds"), cpu("DIIF"))),
        "tenfold": min(run[0][s] for s in (4, 8, 16)) > 10,
        "fivefold": min(x for s, x in times[1].items() if s != "x2") > 5,
        "grown": ", ".join(f"{m} {x:.1f} s" for m, x in grown.items()),
        "grows_least": grown["DIIF"] == min(grown.values()),
        "climb": {m: seconds_3(m)["x6"] / seconds_3(m)["x3"] for m in ("DIIF", "LIIF")},
        "seconds": {m: seconds_3(m) for m in ("DIIF", "LIIF")},
        "dlte_cost": listed(ratio(macs_3("DLTE"), macs_3("DIIF")), ".2f"),
        "dlte_time": listed(ratio(seconds_3("DLTE"), seconds_3("DIIF")), ".2f"),
        "rate": ratio(macs_3("LIIF"), seconds_3("LIIF")),  # T multiplications a second
        "cheapest": sum(share > 0 for share in dlte),
        "compared": len(dlte),
    }


def facts() -> dict:
    """All facts that data/claims/diif.toml names."""
    return {**quality_facts(), **slice_facts(), **cost_facts()}
