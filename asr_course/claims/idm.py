"""Facts about IDM's claims, from its tables, our counts and our records."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import torch

from asr_course.claims.counts import model_of
from asr_course.claims.tools import column, gaps, listed, span
from asr_course.claims.trained import signed
from asr_course.compare import plus_minus, separated
from asr_course.diffusion import signal
from asr_course.models import count_parameters
from asr_course.models.idm import LARGEST
from asr_course.profiling import macs_paper, multiplications
from asr_course.records import load_record, paper_rows
from asr_course.weights import load_pretrained

DIV2K = "DIV2K-val"
LSUN = {
    "cats": "Cats(CAT-100)",
    "bedrooms": "LSUN-Bedrooms-100",
    "towers": "LSUN-Towers-100",
}
FIT = "Consistency_MSEx1e-5"
LOWER = ("LPIPS", FIT, "consistency", "distance")  # less is better
REGRESSIONS = ("Bicubic", "EDSR", "LIIF")  # of Table 4, and what nobody trains
MARKS = {"psnr": 2, "ssim": 3, "consistency": 0}  # of Table 2, and our digits
HEARD = ("concat-bicubic", "concat-edsr", "full")  # (a), (b), (c) of Figure 9


@cache
def table(dataset: str, metric: str, **where: str) -> dict[str, float]:
    """One column of a table: {method: value}."""
    rows = paper_rows(paper="IDM", dataset=dataset, metric=metric, **where)
    return {row["method"]: float(row["value"]) for row in rows}


def lead(values: dict[str, float], metric: str, without: Sequence[str] = ()) -> float:
    """IDM less the best rival, which is the smallest one where less is better."""
    rivals = [v for m, v in values.items() if m not in ("IDM", *without)]
    best = min(rivals) if metric in LOWER else max(rivals)
    return round(values["IDM"] - best, 4)


def of_faces() -> dict:
    """Table 2."""
    psnr, ssim, fit = (table("CelebA-HQ-100", m) for m in ("PSNR", "SSIM", FIT))
    return {
        "faces_psnr": lead(psnr, "PSNR"),
        "faces_ssim": lead(ssim, "SSIM"),
        "faces_fit": lead(fit, FIT),
        "sr3_gap": fit["SR3"] - fit["IDM"],
        "gans": listed({m: fit[m] for m in ("PULSE", "FSRGAN")}, ".1f"),
        "no_gans": span([fit[m] for m in ("Regression", "SR3", "IDM")], ".2f"),
        "sr3_at_8": psnr["SR3"],
    }


def by_class(method: str, metric: str) -> dict[str, float]:
    """One cell of Table 3 for each class."""
    return {name: table(data, metric)[method] for name, data in LSUN.items()}


def of_lsun() -> dict:
    """Table 3."""
    pulse, rival, glean, idm = (
        by_class(m, "LPIPS") for m in ("PULSE", "ESRGAN+", "GLEAN", "IDM")
    )
    closer = gaps(glean, rival)
    higher = gaps(by_class("GLEAN", "PSNR"), by_class("ESRGAN+", "PSNR"))
    return {
        "over_glean": listed(gaps(idm, glean), "+.4f"),
        "over_rooms": idm["bedrooms"] - rival["bedrooms"],
        "glean_psnr": listed(higher),
        "glean_lpips": listed(closer, "+.4f"),
        "pulse_lpips": listed(pulse, ".4f"),
        "rivals_as_said": min(higher.values()) > 0 > max(closer.values())
        and max(gaps(pulse, rival).values()) < 0,
    }


def of_div2k() -> dict:
    """Table 4. It has IDM twice: trained on DIV2K alone ("few"), and on more."""
    many = {m: table(DIV2K, m, train_set="DIV2K+Flickr2K") for m in ("PSNR", "SSIM")}
    few = {m: many[m] | table(DIV2K, m, train_set="DIV2K") for m in many}
    gen, less = ([lead(x[m], m, REGRESSIONS) for m in many] for x in (many, few))
    theirs = {"encoder": "EDSR-baseline", "dataset": DIV2K, "train_set": "DIV2K"}
    others = [column("LIIF", paper=p, **theirs)["x4"] for p in ("DIIF", "DIIN")]
    return {
        "gen_psnr": gen[0],
        "gen_ssim": gen[1],
        "few_psnr": less[0],
        "few_ssim": less[1],
        "gen_as_said": gen == [0.5, 0.03],
        "few_edsr": few["PSNR"]["IDM"] - few["PSNR"]["EDSR"],
        "few_ahead": all(lead(few[m], m) > 0 for m in few),
        "over_liif_div2k": many["PSNR"]["IDM"] - many["PSNR"]["LIIF"],
        "best_of_all": all(lead(many[m], m) > 0 for m in many),
        "liif_printed": many["PSNR"]["LIIF"],
        "liif_elsewhere": " and ".join(f"{value:.2f}" for value in others),
    }


def of_scales() -> dict:
    """Table 5."""
    where = {"paper": "IDM", "dataset": "CelebA-HQ"}
    psnr, lpips = (
        {m: column(m, metric, **where) for m in ("IDM", "LIIF", "SR3")}
        for metric in ("PSNR", "LPIPS")
    )
    over = gaps(psnr["IDM"], psnr["LIIF"])
    inside = {k: v for k, v in over.items() if float(k[1:]) <= 8}
    return {
        "over_liif_inside": listed(inside),
        "over_liif_outside": listed({k: over[k] for k in over if k not in inside}),
        "over_liif_lpips": listed(gaps(lpips["IDM"], lpips["LIIF"]), "+.4f"),
        "idm_lpips": listed(lpips["IDM"], ".4f"),
        "sr3_by_scale": listed(psnr["SR3"], ".2f"),
    }


def of_exam() -> dict:
    """Our IDM, with most of its steps, and our LIIF on digits."""
    record = load_record("idm_exam")
    rows = sorted(record["rows"], key=lambda row: row["steps"])
    liif, idm = (
        {k: v["mean"] for k, v in row.items() if isinstance(v, dict)}
        for row in (rows[0], rows[-1])
    )
    gap = {k: idm[k] - liif[k] for k in MARKS}
    return {
        **{f"{k}_gap": v for k, v in gap.items()},
        **{f"idm_{k}": v for k, v in idm.items()},
        **{f"liif_{k}": v for k, v in liif.items()},
        "law_db": 10 * math.log10(2),  # twice the squared error
        "best_in_exam": gap["psnr"] > 0 and gap["ssim"] > 0 > gap["consistency"],
        "liif_ahead": gap["psnr"] < 0,
        "blur_and_detail": liif["mse"] < idm["mse_of_mean"] < idm["mse"]
        and liif["sharpness"] < 0.5
        and abs(idm["sharpness"] - 1) < 0.25,
        "likeliest": record["laws"]["best_guess"],
        "keeps_identity": idm["accuracy"] > 0.5,  # more often than not
    }


def marks(variant: str, mark: str) -> list[float]:
    """One mark of a variant in our ablation, seed by seed."""
    rows = [r for r in load_record("idm_ablation")["rows"] if r["variant"] == variant]
    return [row[mark] for row in sorted(rows, key=lambda row: row["seed"])]


def better(a: str, b: str, mark: str) -> bool:
    """Whether every seed of variant a has a better mark than every seed of b."""
    return separated(marks(a, mark), marks(b, mark)) == (-1 if mark in LOWER else 1)


def of_conditioning() -> dict:
    """What the U-Net hears: Figure 9. (a) is also what SR3's hears."""
    ours, sr3 = ({m: marks(v, m) for m in MARKS} for v in ("full", HEARD[0]))
    over = {m: np.subtract(ours[m], sr3[m]) for m in MARKS}
    steps = {
        f"({a}) and ({b}) in {word}": better(y, x, mark)
        for (a, x), (b, y) in pairwise(zip("abc", HEARD, strict=True))
        for word, mark in (("edges", "sharpness"), ("readings", "distance"))
    }
    return {
        **{f"sr3_{m}": signed(over[m], digits) for m, digits in MARKS.items()},
        "beats_sr3": all(better("full", HEARD[0], m) for m in MARKS),
        "edges": ", ".join(plus_minus(marks(v, "sharpness")) for v in HEARD),
        "off": ", ".join(plus_minus(marks(v, "distance")) for v in HEARD),
        "as_in_figure_9": all(steps.values()),
        "apart": ", ".join(step for step, seen in steps.items() if seen) or "none",
        "right_full": plus_minus(marks("full", "accuracy")),
        "right_sr3": plus_minus(marks(HEARD[0], "accuracy")),
    }


def of_answers() -> dict:
    """What the U-Net is asked, and how much its answers vary."""
    picture, noise = (marks(v, "psnr") for v in ("full", "noise"))
    varied = marks("full", "diversity") + marks(HEARD[0], "diversity")
    return {
        "asked_picture": plus_minus(picture),
        "asked_noise": plus_minus(noise),
        "asked_alike": separated(picture, noise) == 0,
        "varied_by": span(varied, ".0f"),
        "varied": min(varied) > 1,  # more than rounding to grey levels
    }


def shares() -> list[list[float]]:
    """Mean squared share of generated features at ×2 and ×8, depth by depth."""
    told = [torch.tensor([scale]) for scale in (2.0, 8.0)]
    with torch.no_grad():
        return [
            [layer(s, absolute=True)[1].square().mean().item() for s in told]
            for layer in load_pretrained("idm").mix
        ]


def closed_form() -> bool:
    """Whether steps of noise one by one (Eq. 1) have the variance of Eq. 2."""
    gamma, variance = signal()[:1001], 0.0
    for beta in (1 - gamma[1:] / gamma[:-1]).tolist():
        variance = (1 - beta) * variance + beta
    return math.isclose(variance, 1 - gamma[-1].item())


def of_counts() -> dict:
    """The network at its paper's size, faces from 16 x 16 to 128 x 128."""
    idm, liif = (model_of(name, "edsr-baseline") for name in ("idm", "liif"))
    with torch.device("meta"):
        given = idm.condition(torch.zeros(1, 3, 16, 16), (128, 128))
        noisy, level = torch.zeros(1, 3, 128, 128), torch.zeros(1)
        step = multiplications(lambda: idm.ask(noisy, level, given))
    chain, by_depth = idm.options.steps * step, shares()
    ratio = chain / macs_paper(liif, (16, 16), 8)
    return {
        "parameters": count_parameters(idm) / 1e6,
        "step_giga": step / 1e9,
        "steps": idm.options.steps,
        "chain_tera": chain / 1e12,
        "chain_over_liif": ratio,
        "practical": ratio < 10,  # a generous reading
        "largest": LARGEST,
        "shares": "; ".join(f"{a:.2f} to {b:.2f}" for a, b in by_depth),
        "shares_rise": all(a < b for a, b in by_depth),
        "closed_form": closed_form(),
    }


def facts() -> dict:
    """All facts that data/claims/idm.toml names."""
    parts = of_faces(), of_lsun(), of_div2k(), of_scales()
    parts += of_exam(), of_conditioning(), of_answers(), of_counts()
    return {key: value for part in parts for key, value in part.items()}
