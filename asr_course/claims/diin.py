"""Facts about DIIN's claims, from its tables, our counts and our records."""

from functools import cache

import numpy as np
import torch

from asr_course.claims.counts import model_of
from asr_course.claims.tools import (
    column,
    continuous,
    gaps,
    jumps,
    listed,
    per_query,
    span,
)
from asr_course.claims.trained import TESTED, above, ours, sides, tallied
from asr_course.compare import METHODS, seed_scores
from asr_course.models import build, count_parameters
from asr_course.profiling import macs_paper
from asr_course.records import load_record, paper_rows

RIVALS = ("LIIF", "LTE", "MetaSR", "CLIT", "SRNO")
SETS = {"DIV2K-val": "RGB", "Set5": "Y", "Set14": "Y", "B100": "Y", "Urban100": "Y"}


EDSR = {"paper": "DIIN", "encoder": "EDSR-baseline", "dataset": "DIV2K-val"}


@cache
def cells() -> dict[tuple, dict[str, float]]:
    """Every column of Tables 1 and 2: {(encoder, set, scale): {method: dB}}."""
    found = {}
    for encoder in ("EDSR-baseline", "RDN"):
        for data, channel in SETS.items():
            for method in ("DIIN", *RIVALS):
                where = {"encoder": encoder, "dataset": data, "channel": channel}
                for scale, value in column(method, paper="DIIN", **where).items():
                    found.setdefault((encoder, data, scale), {})[method] = value
    return {key: cell for key, cell in found.items() if "DIIN" in cell}


def lead(cell: dict[str, float]) -> float:
    """DIIN less the best of its rivals."""
    return cell["DIIN"] - max(cell[rival] for rival in RIVALS if rival in cell)


def lead_of(encoder: str, scale: str) -> float:
    """The lead on DIV2K."""
    return round(lead(cells()[encoder, "DIV2K-val", scale]), 2)


def ranks() -> dict[str, int]:
    """In how many cells DIIN is alone first, shares the first place, or is beaten."""
    counted = {"first": 0, "shared": 0, "beaten": 0, "cells": 0}
    for cell in cells().values():
        best = max(value for name, value in cell.items() if name != "DIIN")
        kind = "first" if cell["DIIN"] > best else "beaten"
        kind = "shared" if cell["DIIN"] == best else kind
        counted[kind] += 1
        counted["cells"] += 1
    return counted


def depth() -> dict[int, dict[str, float]]:
    """Table 4: {layers: {"x2": dB}}."""
    return {
        n: column(f"DIIN(N={n}) [Table 4]", dataset="DIV2K-val") for n in (1, 2, 3, 4)
    }


def loses(variant: str) -> bool:
    """Whether a variant loses in every seed at every scale."""
    return above("diin_ablation", "full", variant)


def shared_with_diif() -> tuple[int, int]:
    """How many baseline numbers DIIN's and DIIF's tables share, and how many agree."""
    names = {"BSD100": "B100", "Y(as LIIF)": "Y"}
    theirs, same = {}, 0
    for row in paper_rows(paper="DIIF", metric="PSNR"):
        if "[" not in row["method"]:
            alone = row["method"] == row["encoder"]
            method = row["encoder"] if alone else row["method"]
            place = (names.get(row[k], row[k]) for k in ("dataset", "channel"))
            theirs[method, row["encoder"], *place, row["scale"]] = row["value"]
    both = 0
    for row in paper_rows(paper="DIIN", metric="PSNR"):
        method = row["encoder"] if row["method"].endswith("-only") else row["method"]
        key = method, row["encoder"], row["dataset"], row["channel"], row["scale"]
        if key in theirs:
            both += 1
            same += float(theirs[key]) == float(row["value"])
    return both, same


def named_in_text(r: int) -> int:
    """Parameters of a layer as far as the text names its matrices, at width 256."""
    d = 256
    square, narrow = d * d + d, d * (d // r) + d // r
    return 5 * square + 2 * narrow


def facts() -> dict:
    """All facts that data/claims/diin.toml names."""
    table, found = depth(), ranks()
    growth = gaps(table[4], table[1])
    steps = {n: gaps(table[n + 1], table[n]) for n in (1, 2, 3)}
    full = column("DIIN [Table 3]")
    minus = {k: gaps(column(f"DIIN(-{k}) [Table 3]"), full) for k in "cpad"}
    both, same = shared_with_diif()
    over = {
        rival: [
            cell["DIIN"] - cell[rival] for cell in cells().values() if rival in cell
        ]
        for rival in RIVALS
    }
    sizes, seconds = (
        [float(row["value"]) for row in paper_rows(paper="DIIN", metric=metric)]
        for metric in ("Params_M", "Inference_s_RTX3090")
    )
    layer = [(sizes[3] - sizes[0] + slack) / 3 * 1e3 for slack in (-0.1, 0.1)]
    with torch.device("meta"):
        layers = [build("diin", "paper", layers=n) for n in (1, 4)]
    costs = [macs_paper(model, (90, 160), 4) for model in layers]
    diin, liif = (
        macs_paper(model_of(n, "edsr-baseline"), (90, 160), 4) for n in ("diin", "liif")
    )
    against = sides("diin", METHODS[:-1])
    over_liif = sides("diin", ("liif",))
    div2k = [c for (_, d, _), c in cells().items() if d == "DIV2K-val"]
    leads = [lead(cell) for cell in div2k]
    by_scale = gaps(*(column(m, **EDSR) for m in ("DIIN", "LIIF")))
    laptop = {
        r["model"]: r["cpu_seconds"]
        for r in load_record("profile_laptop")["rows"]
        if r["scale"] == 4
    }
    our_gain = {
        s: np.mean(seed_scores("diin", "set14", s))
        - np.mean(seed_scores("liif", "set14", s))
        for s in (2, 12)
    }
    return {
        **{f"rank_{key}": value for key, value in found.items()},
        "never_beaten": found["beaten"] == 0,
        "against_all": tallied(against),
        "against_liif": tallied(over_liif),
        "always_over_ours": set(over_liif) == {1},
        "div2k_first": sum(lead > 0.001 for lead in leads),
        "div2k_cells": len(leads),
        "div2k_lead": max(leads),
        "seed_range": max(np.ptp(seed_scores("diin", "set5", s)) for s in TESTED),
        "gain_by_scale": listed(by_scale),
        "largest_at_30": lead_of("RDN", "x30") > lead_of("RDN", "x18"),
        "our_gain_2": our_gain[2],
        "our_gain_12": our_gain[12],
        "edsr_sets": len({d for e, d, _ in cells() if e == "EDSR-baseline"}),
        "far_sets": len({d for _, d, s in cells() if int(s[1:]) > 12}),
        "reduced": len(minus),
        "over_clit_worst": min(over["CLIT"]),
        "over_srno_worst": min(over["SRNO"]),
        "over_liif": span(over["LIIF"]),
        "both": both,
        "same": same,
        "nothing_copied": same < both / 2,
        "depth_gain": listed(growth),
        "small_scales_gain_most": min(growth["x2"], growth["x3"]) > growth["x4"],
        **{f"step_{n}": listed(steps[n]) for n in steps},
        "ours_1": ours("diin_ablation", "N=1", "full"),
        "ours_3": ours("diin_ablation", "N=3", "full"),
        "ours_4": ours("diin_depth", "N=4", "full"),
        "one_layer_loses": loses("N=1"),
        **{f"minus_{k}": listed(minus[k]) for k in "cpad"},
        **{f"ours_{k}": ours("diin_ablation", f"-{k}", "full") for k in "cpad"},
        **{f"loses_{k}": loses(f"-{k}") for k in "cpad"},
        "all_lose": all(loses(f"-{k}") for k in "cpad"),
        "d_loses_most": loses("-d"),
        "layer_least": layer[0],
        "layer_most": layer[1],
        "jumps": jumps("diin", "centre"),
        "liif_jumps": jumps("liif-recipe", "centre"),
        "continuous": continuous("diin"),
        "text_layer": named_in_text(1),
        "text_fits": layer[0] <= named_in_text(1) / 1e3 <= layer[1],
        "parameters_1_to_4": sizes[3] / sizes[0],
        "seconds_1_to_4": seconds[3] / seconds[0],
        "lead_30_edsr": lead_of("EDSR-baseline", "x30"),
        "lead_30_rdn": lead_of("RDN", "x30"),
        "lead_18_rdn": lead_of("RDN", "x18"),
        "macs_1_to_4": costs[1] / costs[0],
        "depth_is_dear": costs[1] > 1.5 * costs[0],
        "macs_over_liif": diin / liif,
        "time_over_liif": laptop["diin"] / laptop["liif"],
        "cheaper_than_liif": diin < liif,
        "parameters_over_liif": count_parameters(model_of("diin", "edsr-baseline"))
        / count_parameters(model_of("liif", "edsr-baseline")),
        **per_query("diin"),
    }
