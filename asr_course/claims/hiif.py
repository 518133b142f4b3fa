"""Facts about HIIF's claims, from our counts and our records.

The text that we have lacks the bodies of the paper's tables.
"""

import numpy as np
import torch

from asr_course.claims.counts import FROZEN, model_of
from asr_course.claims.tools import jumps, per_query, rows_of, span
from asr_course.claims.trained import (
    ABLATED,
    SETS,
    TESTED,
    above,
    effect,
    sides,
    signed,
    tallied,
)
from asr_course.compare import seed_scores
from asr_course.models import count_parameters
from asr_course.models.hiif import digits
from asr_course.profiling import macs_paper

EARLIER = ("liif", "diinn", "diif")  # methods that the paper could have met
SMALLER = ("metasr", "liif", "lte")  # those that it calls slightly smaller
STUCK = -1.0  # dB from the whole model at ×2: such a run has learnt next to nothing
SLIGHTLY = 0.1  # what we let pass as a slight increase


def ablated(variant: str) -> str:
    """A variant less the whole, all scales; runs that are stuck are counted apart."""
    found = {s: effect("hiif_ablation", variant, "full", s, "psnr_y") for s in ABLATED}
    learnt = [k for k, gap in enumerate(found[2]) if gap > STUCK]
    text = ", ".join(
        f"×{s} {signed([gap[k] for k in learnt], 2)}" for s, gap in found.items()
    )
    stuck = len(found[2]) - len(learnt)
    return (
        f"{text} ({stuck} of {len(found[2])} runs stuck, left out)" if stuck else text
    )


def best_lead() -> float:
    """The largest lead of HIIF's mean over the best mean of earlier methods."""

    def mean(name: str, data: str, s: float) -> float:
        return float(np.mean(seed_scores(name, data, s)))

    return max(
        mean("hiif", data, s) - max(mean(name, data, s) for name in EARLIER)
        for data in SETS.values()
        for s in TESTED
    )


def literal_parameters(encoder: int) -> int:
    """The smallest HIIF that the text allows: a 1×1 projection, one linear layer for
    each of six levels, two attention blocks of three matrices and nothing else."""
    C, levels, blocks = 256, 6, 2
    first = (4 * C + 2 + 2) * C + C  # four codes, digits, cell
    later = (levels - 2) * ((C + 2) * C + C)
    last = (C + 2) * 3 + 3
    return encoder + 64 * C + C + first + later + last + blocks * 3 * C * C


def sizes() -> dict:
    """Parameters and multiplications at the paper's size."""
    models = {n: model_of(n, "edsr-baseline") for n in ("hiif", *SMALLER)}
    count = {n: count_parameters(m) + FROZEN for n, m in models.items()}
    literal = literal_parameters(count_parameters(models["hiif"].encoder) + FROZEN)
    macs = {n: macs_paper(m, (48, 48), 4) for n, m in models.items()}
    return {
        "parameters": count["hiif"],
        "literal": literal,
        "more": span([count["hiif"] / count[n] - 1 for n in SMALLER], "+.0%"),
        "literal_more": span([literal / count[n] - 1 for n in SMALLER], "+.0%"),
        "slightly": all(literal / count[n] - 1 <= SLIGHTLY for n in SMALLER),
        "macs": ", ".join(f"{macs['hiif'] / macs[n]:.2f}" for n in SMALLER),
    }


def costs() -> dict:
    """Seconds and memory, of the whole and of the linear attention alone."""
    hiif, liif = (rows_of("profile_laptop", name) for name in ("hiif", "liif"))
    times, memory = (
        [a[key] / b[key] for a, b in zip(hiif, liif, strict=True)]
        for key in ("cpu_seconds", "peak_mb")
    )
    [few] = [r for r in rows_of("growth", "hiif") if r["queries"] == 4096]
    return {
        "times": span(times, ".1f"),
        "memory": span(memory, ".1f"),
        "dearer_than_liif": min(times + memory) > 1,
        **per_query("hiif"),
        "pairs": few["pairs_cpu_seconds"] / few["cpu_seconds"],
    }


def fewer_seams() -> bool:
    """Whether HIIF's steps at borders and centres stand out no more than LIIF's."""
    hiif, liif = (
        [row[where] for row in rows_of("seams", name) for where in ("border", "centre")]
        for name in ("hiif", "liif-recipe")
    )
    return all(a <= b for a, b in zip(hiif, liif, strict=True))


def strings(places: int, levels: int) -> int:
    """How many digit strings so many evenly spread places on an axis have."""
    middle = (torch.arange(places) + 0.5) / places
    return len(digits(middle, levels).unique(dim=0))


def facts() -> dict:
    """All facts that data/claims/hiif.toml names."""
    against = sides("hiif", EARLIER)
    shared = [strings(8, level) ** 2 for level in (1, 2, 3)]
    names = {"H": "v1-H", "MS": "v2-MS", "MH": "v3-MH"}
    ranges = [
        np.ptp(seed_scores("hiif", data, s)) for data in SETS.values() for s in TESTED
    ]
    return {
        **sizes(),
        **costs(),
        **{f"ours_{key}": ablated(name) for key, name in names.items()},
        **{
            f"loses_{key}": above("hiif_ablation", "full", name)
            for key, name in names.items()
        },
        "ours_printed": ablated("as printed"),
        "against": tallied(against),
        "always_above": set(against) == {1},
        "best_lead": best_lead(),
        "seed_range": max(ranges),
        "level_1": shared[0],
        "level_2": shared[1],
        "level_3": shared[2],
        "levels_part": shared == [4, 16, 64],
        "places": strings(4096, 6),
        "border": jumps("hiif", "border"),
        "centre": jumps("hiif", "centre"),
        "liif_border": jumps("liif-recipe", "border"),
        "fewer_seams": fewer_seams(),
    }
