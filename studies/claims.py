"""The numbers of data/claims.toml, computed anew from the papers' tables and ours.

    python studies/claims.py            all rows and their numbers
    python studies/claims.py diif-group

ROWS, at the end, has a function for every row: it returns the numbers of the row's
`printed` and `here`, as text, in their order, and the verdict where it is computed.
tests/test_claims.py compares. Rows of one kind share the helpers at the top.
"""

import re
import sys
import tomllib
from decimal import ROUND_HALF_EVEN, ROUND_HALF_UP, Decimal
from math import prod

import numpy as np
import torch

from asr_course.coords import pixel_centres, to_position
from asr_course.encoders import ENCODERS
from asr_course.lessons.diif import macs_tail
from asr_course.lessons.side_by_side import seed_scores
from asr_course.models import build
from asr_course.models.hiif import HIIFOptions, digits
from asr_course.models.slices import pixel_groups
from asr_course.profile import count_parameters, encoder_macs, macs_paper
from asr_course.records import ROOT, load_record, paper_rows

CLAIMS = ROOT / "data" / "claims.toml"
TRAINED, BEYOND = (2, 3, 4), (6, 8, 12)
UNTRAINED = 0.8  # dB below the whole model: such a run stayed at its start
NOTHING = 0.005  # dB: a smaller difference has no sign


def claims() -> dict[str, dict]:
    """The rows of data/claims.toml by name."""
    return tomllib.loads(CLAIMS.read_text())


def numbers_of(row: dict) -> list[str]:
    """The numbers in a row's `printed` and `here`, without scales and places."""
    text = row["printed"] + " " + row["here"]
    text = re.sub(r"(×\s?|Eq\. |Tables? |Figure |§)\d[\d.]*", "", text)
    return re.findall(r"(?<![\w.])[+-]?\d+(?:,\d{3})*(?:\.\d+)?(?!\w)", text)


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)


def db(values) -> list[str]:
    """Differences in decibels, with their sign; halves are rounded up."""
    exact = (Decimal(round(float(value), 9)) for value in values)
    exact = (
        round(value, 6).quantize(Decimal("0.01"), ROUND_HALF_UP) for value in exact
    )
    return [f"{value:+}" for value in exact]


def printed(paper: str, method: str, metric: str = "PSNR", **where) -> dict:
    """A paper's numbers for a method: {(data set, scale): number}."""
    rows = paper_rows(paper=paper, method=method, metric=metric, **where)
    return {
        (r["dataset"], r["scale"].removeprefix("x")): float(r["value"]) for r in rows
    }


def printed_change(paper: str, variant: str, whole: str) -> dict[float, float]:
    """What a variant changes in a paper's ablation, by scale."""
    encoder = paper_rows(paper=paper, method=variant)[0]["encoder"]
    a, b = (printed(paper, name, encoder=encoder) for name in (variant, whole))
    return {float(scale): a[data, scale] - b[data, scale] for data, scale in a}


def change(record: str, variant: str, whole: str = "full", scales=TRAINED) -> list:
    """A variant less the whole method, PSNR on RGB: a mean over `scales` a seed."""
    score = {
        (row["variant"], row["scale"], row["seed"]): row["psnr_rgb"]
        for row in load_record(record)["rows"]
    }
    seeds = sorted({seed for *_, seed in score})
    return [
        mean(score[variant, s, k] - score[whole, s, k] for s in scales) for k in seeds
    ]


def verdict(changes: list[float], expected: int) -> str:
    """The verdict on one change a seed. expected: its sign in the paper, 1 or -1."""
    if min(changes) < -UNTRAINED:
        return "no result"
    signs = {(value > NOTHING) - (value < -NOTHING) for value in changes}
    if signs == {expected}:
        return "same sign in all seeds"
    return "opposite sign in all seeds" if signs == {-expected} else "cannot tell"


def without(in_print: dict, record: str, variant: str) -> tuple:
    """A part taken away: the change at x2 to x4 and at x8, in print and for each seed.

    in_print: the paper's changes by scale; those above 4 stand beside our x8.
    """
    trained, large = change(record, variant), change(record, variant, scales=[8])
    table = [
        [x for s, x in in_print.items() if (s > 4) == far] for far in (False, True)
    ]
    table = [mean(part) for part in table if part]
    found = f"×2 to ×4: {verdict(trained, -1)}; ×8: {verdict(large, -1)}"
    return db(table + trained + large), found


def stuck(changes: list[float]) -> str:
    """How many of the runs did not train."""
    return str(sum(value < -UNTRAINED for value in changes))


def rival(
    name: str,
    measure="psnr_y",
    protocol="liif",
    scales=TRAINED,
    sets=("set5", "set14"),
) -> tuple[list[str], str]:
    """A method beside LIIF: each seed's mean over sets and scales, and a verdict."""
    cells = [(data, scale) for data in sets for scale in scales]
    ours, liif = (
        np.mean([seed_scores(m, d, s, measure, protocol) for d, s in cells], axis=0)
        for m in (name, "liif")
    )
    found = "cannot tell"
    if min(ours) - max(liif) > NOTHING:
        found = "same sign in all seeds"
    if min(liif) - max(ours) > NOTHING:
        found = "opposite sign in all seeds"
    return [f"{x:.3f}" for x in (*ours, *liif)], found


def printed_lead(name: str, metric="PSNR", scales=TRAINED, sets=("Set5", "Set14")):
    """By how much a paper's method leads its LIIF, with RDN: a mean over cells."""
    a, b = (printed(name, m, metric, encoder="RDN") for m in (name, "LIIF"))
    return db([mean(a[d, str(s)] - b[d, str(s)] for d in sets for s in scales)])


def both(first: tuple, second: tuple) -> tuple:
    """A row of two measurements: the numbers of both, and both verdicts."""
    return first[0] + second[0], f"×2 to ×4: {first[1]}; beyond: {second[1]}"


def thousands(name: str) -> list[str]:
    """Thousands of parameters in the decoders of a method and of LIIF, laptop size."""
    models = (build(m, "laptop") for m in (name, "liif"))
    counts = (count_parameters(m) - count_parameters(m.encoder) for m in models)
    return [f"{count / 1000:.0f}" for count in counts]


def seams(*names: str, where: str = "border") -> list[str]:
    """Steps at borders or centres of input pixels, over those elsewhere."""
    rows = load_record("seams")["rows"]
    found = {(r["model"], r["scale"]): f"{r[where]:.1f}" for r in rows}
    return [found[name, scale] for name in names for scale in (8, 16, 32)]


# DIINN --------------------------------------------------------------------------------

TABLE_5 = {
    "(a)": "DIINN(a)[m]IP=Yes [Table 5]",
    "(b)": "DIINN(b)[m]IP=No [Table 5]",
    "(c)": "DIINN(c)[m,z]IP=Yes [Table 5]",
    "(d)": "DIINN(d)[m,z]IP=No [Table 5]",
    "(e)": "DIINN(e)[s,z]IP=Yes [Table 5]",
    "(f)": "DIINN(f)[s,z]IP=No [Table 5]",
}


def table_5(*pairs: tuple[str, str], expected: int = 1) -> tuple:
    """Pairs of DIINN's variants: the first less the second, in print and here."""
    numbers, ours, found = [], [], []
    for a, b in pairs:
        names = TABLE_5[a], TABLE_5[b]
        numbers += db(printed_change("DIINN", *names).values())
        changes = change("diinn_ablation", a, b, scales=(3, 4, 8))
        ours += db(changes)
        found.append(f"{a} and {b}: {verdict(changes, expected)}")
    return numbers + ours, "; ".join(found)


def diinn_liif():
    how = "diinn", "psnr_rgb", "diinn"
    numbers, found = both(rival(*how), rival(*how, BEYOND))
    return [*printed_lead("DIINN"), *numbers, *thousands("diinn")], found


def diinn_consistency():
    scores, found = rival("diinn", "lr_psnr", "diinn")
    return [*printed_lead("DIINN", "LR-PSNR"), *scores], found


# DIIF ---------------------------------------------------------------------------------

TABLE_4 = {
    "w/o ds": "DIIF(w/o-ds) [Table 4]",
    "w/o se": "DIIF(w/o-se) [Table 4]",
    "x4-only": "DIIF(x4-only) [Table 4]",
    "cs": "DIIF(cs) [Table 4]",
    "c4+f3": "DIIF(c4+f3) [Table 4]",
    "c2+f5": "DIIF(c2+f5) [Table 4]",
}
OPTIONS = {  # of DIIF's variants, as its tables call them
    "DIIF(w/o-ds)": {"slicing": "fixed", "slice_ensemble": False},
    "DIIF(w/o-se)": {"slice_ensemble": False},
    "DIIF(x4-only)": {},  # trained on one scale, and the same network
    "DIIF(cs)": {"slicing": "constant"},
    "DIIF(c4+f3)": {"coarse": (256,) * 4},
    "DIIF(c2+f5)": {"fine": (256,) * 4},
}


def table_4(variant: str) -> dict[float, float]:
    return printed_change("DIIF", TABLE_4[variant], "DIIF [Table 4]")


def paper_size(method: str, encoder: str = "edsr-baseline"):
    """A model by its name in DIIF's tables."""
    name = method.partition("(")[0].lower()
    return build(name, "paper", encoder.lower(), **OPTIONS.get(method, {}))


def diif_group():
    counts = ["16"]  # Figure 3
    for s in (2, 4, 8):
        places = to_position(pixel_centres(8 * s), 8)
        side = pixel_groups(places, 8, torch.tensor(1 / s)).count  # pixels in a row
        counts.append(str(side.unique().item() ** 2))
    return counts, None


def diif_linear():
    leads = table_4("cs").values()
    wins = sum(round(lead, 2) < 0 for lead in leads)
    return [*db(leads), str(wins), str(len(leads))], None


def lead_over(method: str, rival: str, data: tuple[str, ...]) -> list[float]:
    """By how much a method is above another in the cells of Tables 1 and 2."""
    leads = []
    for encoder in ("EDSR-baseline", "RDN"):
        a, b = (printed("DIIF", m, encoder=encoder) for m in (method, rival))
        leads += [round(a[cell] - b[cell], 2) for cell in a if cell[0] in data]
    return leads


def diif_state_of_the_art():
    leads = lead_over("DIIF", "LTE", ("DIV2K-val", "Set14", "BSD100", "Urban100"))
    below, level = sum(x < 0 for x in leads), sum(x == 0 for x in leads)
    return [
        str(n) for n in (below, len(leads), level, len(leads) - below - level)
    ], None


def diif_consistent():
    numbers = []
    for pair in (("DIIF", "LIIF"), ("DLTE", "LTE")):
        leads = lead_over(*pair, data=("DIV2K-val",))
        ahead, level = sum(x > 0 for x in leads), sum(x == 0 for x in leads)
        numbers += [ahead, len(leads), level]
    diif, cells, _, dlte, _, level = map(str, numbers)
    return [diif, cells, dlte, level], None


def times_faster(method: str, rival: str) -> list[float]:
    """Seconds of a rival over a method's in Table 3, from x3 to x24."""
    names = (f"{m} [Table 3]" for m in (rival, method))
    a, b = (printed("DIIF", name, "Runtime_s_RTX2080Ti") for name in names)
    return [a[cell] / b[cell] for cell in a if cell[1] != "2"]


def diif_dlte_five_times():
    return [f"{ratio:.1f}" for ratio in times_faster("DLTE", "LTE")], None


def millions(method: str, encoder: str) -> str:
    """Parameters in millions; EDSR's include the 24 of two frozen colour shifts."""
    if method == encoder:
        tail = 4 * (4 * 64 * 64 * 9 + 4 * 64) + 64 * 27 + 3  # to x16, in four steps
        count = count_parameters(ENCODERS[encoder.lower()]()) + tail
    else:
        count = count_parameters(paper_size(method, encoder))
    return f"{(count + 24 * (encoder == 'EDSR-baseline')) / 1e6:.3f}"


def diif_parameters():
    rows = paper_rows(paper="DIIF", metric="Params_M")
    same = [millions(r["method"], r["encoder"]) == r["value"] for r in rows]
    fitted = sum(r["method"] in ("DIIF", "DLTE") for r in rows)
    return [str(n) for n in (len(rows), sum(same), fitted)], None


def diif_thousands():
    rows = paper_rows(paper="DIIF", metric="Params_wo_encoder_K_as_printed")
    encoder = count_parameters(ENCODERS["edsr-baseline"]()) + 24
    less, same = [], 0
    for row in rows:
        method = row["method"].partition(" [")[0]
        whole = Decimal(millions(method, "EDSR-baseline"))
        thousands = (whole - round(Decimal(encoder) / 10**6, 3)) * 1024
        same += round(thousands) == int(row["value"])
        exact = count_parameters(paper_size(method)) + 24 - encoder
        less.append(100 * (1 - exact / 1000 / int(row["value"])))
    million = f"{encoder / 1e6:.3f}"
    numbers = len(rows), same, million, "1,024", million
    return [*map(str, numbers), f"{min(less):.1f}", f"{max(less):.1f}"], None


def in_print(method: str, table: str, encoder: str, scale: int) -> Decimal:
    """Our count in the tables' unit: 10^12, or 1024 * 10^9 below one of those."""
    size = (180, 320) if table == "Table 3" else (90, 160)
    if method == encoder:  # the encoder with its own tail
        exact = prod(size) * encoder_macs(ENCODERS[encoder.lower()]())
        exact += macs_tail(64, size, scale)
    else:
        exact = macs_paper(paper_size(method, encoder), size, scale)
    return Decimal(exact) / (10**12 if exact >= 10**12 else 1024 * 10**9)


def diif_multiplications():
    off = []  # by how many units of the last digit
    for row in paper_rows(paper="DIIF", metric="MACs_T_as_printed"):
        method, _, table = row["method"].partition(" [")
        key = table.rstrip("]"), row["encoder"], int(row["scale"].removeprefix("x"))
        ours, value = in_print(method, *key), Decimal(row["value"])
        ways = (ROUND_HALF_UP, ROUND_HALF_EVEN)
        gaps = [abs(ours.quantize(value, way) - value) for way in ways]
        off.append(int(min(gaps).scaleb(-value.as_tuple().exponent)))
    counts = off.count(0), "1,024", off.count(1), sum(n > 1 for n in off)
    return [str(n) for n in (len(off), *counts)], None


def diif_liif():
    (table, alone), (more, together) = (
        rival("diif", sets=sets) for sets in (("set14",), ("set5", "set14"))
    )
    found = f"Set14: {alone}; both: {together}"
    return printed_lead("DIIF", sets=("Set14",)) + table + more, found


def diif_savings():
    def saved(method, rival, encoder="edsr-baseline", scale=16):
        a, b = (
            macs_paper(paper_size(m, encoder), (90, 160), scale)
            for m in (method, rival)
        )
        return f"{100 * (1 - a / b):.1f}"

    pairs = ("DIIF", "LIIF"), ("DLTE", "LTE")
    where = {"metric": "MACs_T_as_printed", "encoder": "EDSR-baseline"}
    table = [[printed("DIIF", m, **where)["160x90", "16"] for m in p] for p in pairs]
    in_table = [f"{100 * (1 - a / b):.1f}" for a, b in table]
    ours = [
        saved(*pair, encoder) for encoder in ("edsr-baseline", "rdn") for pair in pairs
    ]
    unit = f"{100 * (1 - 1000 / 1024):.1f}"
    return [*in_table, *ours, saved(*pairs[0], scale=30), unit], None


def diif_one_scale():
    table = table_4("x4-only")
    numbers, found = without(table, "diif_x4", "x4-only")
    two = db([table[2.0]]), db(change("diif_x4", "x4-only", scales=[2]))
    trained, beyond = numbers[0:1], numbers[1:2]
    return trained + two[0] + beyond + numbers[2:5] + two[1] + numbers[5:], found


def diif_depth():
    changes = [change("diif_ablation", variant) for variant in ("c2+f5", "c4+f3")]
    tables = [table_4(variant) for variant in ("c2+f5", "c4+f3")]
    table = db(mean(list(t.values())[:3]) for t in tables)
    counts = [*map(stuck, changes), str(len(changes[0]))]
    left = [x for seeds in changes for x in seeds if x > -UNTRAINED]
    return [*table, *counts, *db(left)], verdict(changes[0], 1)


# HIIF ---------------------------------------------------------------------------------


def hiif_parts():
    encoding, attention = (change("hiif_ablation", v) for v in ("v1-H", "v3-MH"))
    left = [x for x in encoding + attention if x >= -UNTRAINED]
    counts = [stuck(encoding), stuck(attention), str(len(encoding))]
    return [*counts, *db(left)], verdict(encoding, -1)


def hiif_places():
    levels = HIIFOptions().levels
    places = digits(torch.linspace(0, 1, 10_000)[:-1], levels).unique(dim=0)
    return [str(levels), "2", str(len(places))], None


def hiif_liif():
    numbers, found = both(rival("hiif"), rival("hiif", scales=BEYOND))
    return [*numbers, *thousands("hiif")], found


# DIIN ---------------------------------------------------------------------------------


def table_3(variant: str) -> dict[float, float]:
    return printed_change("DIIN", f"DIIN({variant}) [Table 3]", "DIIN")


def depth(layers: int, whole: int) -> list[float]:
    names = (f"DIIN(N={n}) [Table 4]" for n in (layers, whole))
    return list(printed_change("DIIN", *names).values())


def diin_layers():
    layers = {"one": 1, "three": 3, "four": 4}
    records = {1: "diin_ablation", 3: "diin_ablation", 4: "diin_depth"}
    changes = [change(records[n], f"N={n}") for n in layers.values()]
    signs = [-1, 1, 1]
    found = [
        f"{word}: {verdict(*pair)}"
        for word, pair in zip(layers, zip(changes, signs, strict=True), strict=True)
    ]
    table = [mean(depth(n, 2)) for n in layers.values()]
    return db(table + sum(changes, [])), "; ".join(found)


def diin_liif():
    numbers, found = both(rival("diin"), rival("diin", scales=BEYOND))
    table = printed_lead("DIIN") + printed_lead("DIIN", scales=BEYOND)
    return [*table, *numbers, *thousands("diin")], found


def diin_parameters():
    rows = paper_rows(paper="DIIN", metric="Params_M")
    counts = [count_parameters(build("diin", "paper", layers=n)) for n in (1, 2, 3, 4)]
    return [r["value"] for r in rows] + [f"{n / 1e6:.3f}" for n in counts], None


def diin_sums():
    rows = load_record("growth")["rows"]
    each = {
        r["queries"]: f"{1e6 * r['cpu_seconds'] / r['queries']:.1f}"
        for r in rows
        if r["model"] == "diin"
    }
    return [each[100**2], "10,000", each[1024**2]], None


def diin_largest():
    table = {
        m: printed("DIIN", m, encoder="EDSR-baseline")["DIV2K-val", "30"]
        for m in ("MetaSR", "LIIF", "LTE", "CLIT", "SRNO", "DIIN")
    }
    return db([table.pop("DIIN") - max(table.values())]), None


def diin_same_numbers():
    names = ("MetaSR", "LIIF", "LTE")
    table = {p: {} for p in ("DIIF", "DIIN")}
    for paper in table:
        for row in paper_rows(paper=paper, metric="PSNR"):
            if row["method"] in names:
                data = row["dataset"].replace("BSD100", "B100")
                table[paper][row["method"], row["encoder"], data, row["scale"]] = row[
                    "value"
                ]
    both = table["DIIF"].keys() & table["DIIN"].keys()
    same = sum(table["DIIF"][cell] == table["DIIN"][cell] for cell in both)
    return [str(same), str(len(both))], None


# IDM ----------------------------------------------------------------------------------

GENERATIVE = ("ESRGAN", "RankSRGAN", "SRFlow", "HCFlow", "HCFlow++", "LAR-SR")


def div2k(methods, metric: str, train_set: str = "DIV2K+Flickr2K") -> float:
    """The best of some methods in IDM's Table 4."""
    where = {"dataset": "DIV2K-val", "train_set": train_set}
    return max(
        value for m in methods for value in printed("IDM", m, metric, **where).values()
    )


def idm_ssim():
    best = [div2k(m, k) for m in (["IDM"], GENERATIVE) for k in ("PSNR", "SSIM")]
    winner = max(GENERATIVE, key=lambda m: div2k([m], "PSNR"))
    beside = div2k([winner], "SSIM")
    gaps = best[0] - best[2], best[1] - best[3], best[1] - beside
    return [f"{x:.2f}" for x in (*best, beside, *gaps)], None


def idm_fewer_pictures():
    ours = [div2k(["IDM"], k, "DIV2K") for k in ("PSNR", "SSIM")]
    rest = [div2k(GENERATIVE, k) for k in ("PSNR", "SSIM")]
    return [f"{x:.2f}" for x in (*ours, *rest, ours[0] - rest[0])], None


def idm_target():
    names = "idm_ablation", "idm_ablation_2"  # seeds 0 and 1, and 2
    rows = [row for name in names for row in load_record(name)["rows"]]
    return [
        f"{r['psnr']:.1f}" for v in ("noise", "full") for r in rows if r["variant"] == v
    ], None


def idm_faces():
    measures = "PSNR", "SSIM", "Consistency_MSEx1e-5"
    return [
        f"{value:.2f}"
        for measure in measures
        for method in ("IDM", "SR3")
        for value in printed("IDM", method, measure, dataset="CelebA-HQ-100").values()
    ], None


# The rows: (the numbers, the verdict where it is computed) ----------------------------

ROWS = {
    "diinn-liif": diinn_liif,
    "diinn-consistency": diinn_consistency,
    "diinn-synthesis": lambda: table_5(("(f)", "(d)"), ("(e)", "(c)")),
    "diinn-content": lambda: table_5(("(d)", "(b)"), ("(c)", "(a)")),
    "diinn-position": lambda: table_5(
        ("(e)", "(f)"), ("(c)", "(d)"), ("(a)", "(b)"), expected=-1
    ),
    "diinn-seams": lambda: (seams("diinn", "liif-recipe"), None),
    "diif-group": diif_group,
    "diif-linear": diif_linear,
    "diif-state-of-the-art": diif_state_of_the_art,
    "diif-consistent": diif_consistent,
    "diif-dlte-five-times": diif_dlte_five_times,
    "diif-continuous": lambda: (seams("diif", "liif-recipe"), None),
    "diif-parameters": diif_parameters,
    "diif-thousands": diif_thousands,
    "diif-multiplications": diif_multiplications,
    "diif-savings": diif_savings,
    "diif-dynamic": lambda: without(table_4("w/o ds"), "diif_ablation", "w/o ds"),
    "diif-ensemble": lambda: without(table_4("w/o se"), "diif_ablation", "w/o se"),
    "diif-constant": lambda: without(table_4("cs"), "diif_ablation", "cs"),
    "diif-one-scale": diif_one_scale,
    "diif-depth": diif_depth,
    "diif-liif": diif_liif,
    "diif-time": lambda: ([f"{x:.1f}" for x in times_faster("DIIF", "LIIF")], None),
    "hiif-parts": hiif_parts,
    "hiif-one-by-one": lambda: without({}, "hiif_ablation", "v2-MS"),
    "hiif-liif": hiif_liif,
    "hiif-places": hiif_places,
    "diin-depth": lambda: (db(depth(4, 1)), None),
    "diin-parameters": diin_parameters,
    "diin-layers": diin_layers,
    "diin-diffusion": lambda: without(table_3("-d"), "diin_ablation", "-d"),
    "diin-dictionary": lambda: without(table_3("-c"), "diin_ablation", "-c"),
    "diin-embedding": lambda: without(table_3("-p"), "diin_ablation", "-p"),
    "diin-without-both": lambda: without(table_3("-a"), "diin_ablation", "-a"),
    "diin-liif": diin_liif,
    "diin-sums": diin_sums,
    "diin-places": lambda: (seams("diin", "liif-recipe", where="centre"), None),
    "diin-largest": diin_largest,
    "diin-same-numbers": diin_same_numbers,
    "idm-ssim": idm_ssim,
    "idm-fewer-pictures": idm_fewer_pictures,
    "idm-target": idm_target,
    "idm-faces": idm_faces,
}


if __name__ == "__main__":
    for name in sys.argv[1:] or ROWS:
        numbers, computed = ROWS[name]()
        print(f"{name}: {' '.join(numbers)}{f' | {computed}' if computed else ''}")
