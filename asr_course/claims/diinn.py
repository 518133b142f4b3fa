"""Facts about DIINN's claims, from its tables, our counts and our records."""

from collections.abc import Callable, Sequence

import torch

from asr_course.claims.counts import model_of
from asr_course.claims.tools import column, continuous, gaps, jumps, listed, span
from asr_course.claims.trained import (
    ABLATED,
    TESTED,
    above,
    ours,
    sides,
    tallied,
    variant_of,
)
from asr_course.coords import make_cell, make_coord
from asr_course.models import build, count_parameters
from asr_course.profiling import macs_paper, weights
from asr_course.records import load_record, paper_rows

METRICS = ("PSNR", "SSIM", "LR-PSNR")
TRAINED = ("x2", "x3", "x4")  # the paper's scales in training
RECORD = "diinn_ablation"
# Variants of Table 5 that differ in one thing, the one that has it first.
CONTENT = ("ca", "db")  # modulation reads the content again
EXCHANGE = ("ec", "fd")  # it reads synthesis, not modulation
INITIAL = ("ab", "cd", "ef")  # positions pass a first layer
KEPT = ("ce", "df")  # the other way round
PAIR = ("liif", "diinn")


def leads(rival: str, metric="PSNR") -> dict[tuple[str, str], float]:
    """DIINN less a rival: {(set, scale): gap}."""
    both = []
    for method in ("DIINN", rival):
        rows = paper_rows(paper="DIINN", method=method, metric=metric)
        both.append({(r["dataset"], r["scale"]): float(r["value"]) for r in rows})
    return gaps(*both)


def main_tables() -> dict:
    """What Tables 1 to 3 say."""
    liif, meta = ({m: leads(r, m) for m in METRICS} for r in ("LIIF", "Meta-SR"))
    far = [cell for cell in liif["PSNR"] if cell[1] not in TRAINED]
    near = {m: {c: g for c, g in x.items() if c not in far} for m, x in meta.items()}
    outside = [rival[m][c] for rival in (liif, meta) for m in METRICS for c in far]
    div2k = {"dataset": "DIV2K-val", "paper": "DIINN"}
    diif = {**div2k, "paper": "DIIF", "encoder": "RDN"}
    return {
        "scales": len({scale for _, scale in liif["PSNR"]}),
        "cells": len(liif["PSNR"]),
        "over_liif": span(list(liif["PSNR"].values())),
        "over_meta": span(list(meta["PSNR"].values())),
        "far_over_liif": span([liif["PSNR"][c] for c in far]),
        "behind_psnr": sum(gap < 0 for gap in near["PSNR"].values()),
        "behind_ssim": sum(gap < 0 for gap in near["SSIM"].values()),
        "level_ssim": sum(gap == 0 for gap in near["SSIM"].values()),
        "behind_lr": sum(gap < 0 for gap in near["LR-PSNR"].values()),
        "near": len(near["PSNR"]),
        "outside_won": sum(gap > 0 for gap in outside),
        "outside": len(outside),
        "implicit": listed(gaps(column("LIIF", **div2k), column("Meta-SR", **div2k))),
        "liif_here": column("LIIF", **div2k)["x2"],
        "liif_diif": column("LIIF", **diif)["x2"],
    }


def variants(metric: str) -> dict[str, dict[str, float]]:
    """Table 5: {"a": {"x4": ...}}."""
    found = {}
    for row in paper_rows(paper="DIINN", metric=metric):
        if "[Table 5]" in row["method"]:
            letter = variant_of(row["method"], "Table 5")[-2]
            found.setdefault(letter, {})[row["scale"]] = float(row["value"])
    return found


def pairs(which: Sequence[str], metric="PSNR", measure="psnr_y") -> dict:
    """One variant less another, in Table 5 and in our ablation."""
    table, found = variants(metric), {}
    for a, b in which:
        key = f"{measure}_{a}{b}"
        found[f"print_{key}"] = listed(gaps(table[a], table[b]))
        found[f"ours_{key}"] = ours(RECORD, f"({a})", f"({b})", measure)
    return found


def wins(which: Sequence[str], scales=ABLATED, measure="psnr_y") -> list[bool]:
    """Whether each is above the other in all of our seeds."""
    return [above(RECORD, f"({a})", f"({b})", scales, measure) for a, b in which]


def table_5() -> dict:
    """What Table 5 and our ablation say."""
    table = {m: variants(m) for m in METRICS}
    urban = {"paper": "DIINN", "dataset": "Urban100"}
    final = {m: column("DIINN", m, **urban)["x4"] for m in METRICS}
    liif = column("LIIF", **urban)["x4"]
    moved = [gaps(x[a], x[b]).values() for a, b in INITIAL for x in table.values()]
    initial = [gap for row in moved for gap in row]
    return {
        **pairs(CONTENT + EXCHANGE + INITIAL),
        **pairs(KEPT, "LR-PSNR", "lr_psnr"),
        "content_helps": all(wins(CONTENT)),
        "exchange_helps": all(wins(EXCHANGE)),
        "no_gain": not any(wins(INITIAL)),
        "keeps_input": all(wins(KEPT, (4, 8), "lr_psnr")),
        "final_is_f": all(table[m]["f"]["x4"] == final[m] for m in METRICS),
        "worse": sum(gap < 0 for gap in initial),
        "initial": len(initial),
        "behind_liif": sum(row["x4"] < liif for row in table["PSNR"].values()),
        "area": ours(RECORD, "area", "(f)"),
    }


def runtimes(method: str) -> list[float]:
    """Table 4: ms for outputs of 128, 256 and 512 pixels a side."""
    rows = paper_rows(method=method, metric="Runtime_ms_QuadroRTX3000")
    return [float(row["value"]) for row in rows]


def faster(key: str) -> list[float]:
    """LIIF's seconds over DIINN's at the paper's size, scale by scale."""
    rows = load_record("profile")["rows"]
    return ratios(*([r[key] for r in rows if r["model"] == m] for m in PAIR))


def ratios(a: Sequence[float], b: Sequence[float]) -> list[float]:
    """a / b, one by one."""
    return [x / y for x, y in zip(a, b, strict=True)]


def of_decoder(count: Callable, name="diinn", **choice) -> int:
    """Parameters or weights without the encoder's, at the paper's size."""
    with torch.device("meta"):
        model = build(name, "paper", **choice)
    return count(model) - count(model.encoder)


def for_a_query(mode: str) -> int:
    """Multiplications for an output pixel, content's done once for an input pixel."""
    with torch.device("meta"):
        model = build("diinn", "paper", modulation_input=mode)
    reading_s = sum(p.in_features * p.out_features for p in model.synthesis[1:])
    return weights(model.synthesis, model.last) + (mode == "sz") * reading_s


def costs() -> dict:
    """Parameters, multiplications and seconds, at the paper's size."""
    kinds = (count_parameters, weights)
    size, liif_size = (of_decoder(count_parameters, n) for n in ("diinn", "liif"))
    shorter = of_decoder(count_parameters, modulation_input="m")
    longer = of_decoder(count_parameters, init_pos=True)
    macs = [macs_paper(model_of(name, "rdn"), (48, 48), 512 / 48) for name in PAIR]
    liif, diinn, meta = map(runtimes, ("LIIF", "DIINN", "Meta-SR"))
    plain, shared = faster("plain_cpu_seconds"), faster("cpu_seconds")
    with torch.device("meta"):
        one = build("liif", "paper", local_ensemble=False)
    whole = model_of("liif", "edsr-baseline")
    opinions = [macs_paper(model, (48, 48), 4) for model in (whole, one)]
    return {
        "parameters": size,
        "parameters_over_liif": size / liif_size,
        "skips_share": size / shorter - 1,
        "initial_share": longer / size - 1,
        "shared_sz": for_a_query("sz"),
        "shared_mz": for_a_query("mz"),
        "no_cost": all(
            of_decoder(k) == of_decoder(k, modulation_input="mz") for k in kinds
        ),
        "ensemble": opinions[0] / opinions[1],
        "ensemble_is_dear": opinions[0] > opinions[1],
        "liif_ms": span(ratios(liif, diinn), ".2f"),
        "meta_ms": span(ratios(diinn, meta), ".2f"),
        "liif_macs": macs[0] / macs[1],
        "cpu_plain": span(plain, ".2f"),
        "cpu_shared": span(shared, ".2f"),
        "faster": min(plain + shared) > 1,
    }


def largest_steps(density: int) -> tuple[float, float]:
    """Largest change between queries down a column, `density` of them in an input
    pixel: inside of pixels and across their borders. Random weights."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        model = build("diinn", "tiny", skip=False).double().eval()
        features = model.encode(torch.rand(1, 3, 4, 4).double())
        coord = make_coord((4 * density, 1))[None].double()
        rgb = model.decode(features, coord, make_cell((16, 16))[None].double())
    steps = rgb[0, :, :, 0].diff(dim=1).abs().amax(dim=0)
    border = torch.arange(len(steps)) % density == density - 1
    return float(steps[~border].max()), float(steps[border].max())


def facts() -> dict:
    """All facts that data/claims/diinn.toml names."""
    near, far = (sides("diinn", ("liif",), s) for s in (TESTED, (6, 8, 12)))
    inside, across = ratios(*(largest_steps(density) for density in (64, 256)))
    return {
        **main_tables(),
        **table_5(),
        **costs(),
        "against_liif": tallied(near),
        "far_against_liif": tallied(far),
        "always_above": set(near) == {1},
        "far_always_above": set(far) == {1},
        "inside": inside,
        "across": across,
        "continuous_inside": inside > 3.5,
        "jumps": jumps("diinn", "border"),
        "liif_jumps": jumps("liif-recipe", "border"),
        "liif_joins": continuous("liif-recipe"),
    }
