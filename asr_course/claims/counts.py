"""Every parameter and multiplication count that the papers print, counted again."""

from functools import cache

import torch

from asr_course.claims.tools import (
    NOT_CHECKABLE,
    NOT_REPRODUCED,
    Claim,
    agrees,
)
from asr_course.encoders import ENCODERS
from asr_course.models import build, count_parameters
from asr_course.models.layers import ImplicitModel
from asr_course.profiling import macs_paper, macs_tail, weights
from asr_course.records import paper_rows

CHANNELS = 64  # of both encoders
FROZEN = 24  # numbers of the official encoders that shift colours and never learn
SHIFTED = ("edsr-baseline",)  # encoders whose official count includes them
VARIANTS = {  # DIIF's Table 4
    "w/o-ds": {"slicing": "fixed", "slice_ensemble": False},
    "w/o-se": {"slice_ensemble": False},
    "cs": {"slicing": "constant"},
    "c4+f3": {"coarse": (256,) * 4},
    "c2+f5": {"fine": (256,) * 4},
    "x4-only": {},
}


@cache
def model_of(name: str, encoder: str, letters: str = "") -> ImplicitModel:
    """A model of the paper's size, without memory for its numbers."""
    options = VARIANTS[letters] if letters else {}
    with torch.device("meta"):
        return build(name, "paper", encoder, **options)


def split(method: str) -> tuple[str, str]:
    """ "DIIF(cs) [Table 4]" as ("DIIF", "cs")."""
    name, _, letters = method.split(" ")[0].partition("(")
    return name, letters.removesuffix(")")


def tail_parameters(scale: int) -> int:
    """Parameters of an upsampling tail: doublings by pixel shuffle, then RGB."""
    doublings = scale.bit_length() - 1
    stage = CHANNELS * 4 * CHANNELS * 9 + 4 * CHANNELS
    return doublings * stage + CHANNELS * 3 * 9 + 3


def count(row: dict[str, str]) -> int:
    """Parameters of a row of DIIF's Tables 1, 3 and 4."""
    name, letters = split(row["method"])
    encoder = row["encoder"].lower()
    frozen = FROZEN if encoder in SHIFTED else 0
    if name == row["encoder"]:  # the encoder alone, with a tail for x16
        with torch.device("meta"):
            body = count_parameters(ENCODERS[encoder]())
        return body + tail_parameters(16) + frozen
    return count_parameters(model_of(name.lower(), encoder, letters)) + frozen


def multiplied(row: dict[str, str]) -> int:
    """Multiplications of a row of DIIF's cost columns."""
    name, letters = split(row["method"])
    encoder, scale = row["encoder"].lower(), int(row["scale"][1:])
    size = tuple(int(n) for n in row["dataset"].split("x")[::-1])
    if name == row["encoder"]:
        with torch.device("meta"):
            body = weights(ENCODERS[encoder]())
        return size[0] * size[1] * body + macs_tail(CHANNELS, size, scale)
    return macs_paper(model_of(name.lower(), encoder, letters), size, scale)


def table_unit(macs: int) -> float:
    """What DIIF's tables print: T as T, but G as G / 1024."""
    return macs / 1e12 if macs >= 1e12 else macs / 1e9 / 1024


def as_printed(value: float, printed: str) -> bool:
    """Whether a value is the printed one to its last digit; half a digit may go
    either way."""
    digits = len(printed.partition(".")[2])
    return abs(value - float(printed)) <= 0.5001 * 10**-digits


def parameter_claims() -> list[Claim]:
    """DIIF's Tables 1, 3 and 4, and DIIN's Table 4."""
    claims = []
    for row in paper_rows(metric="Params_M", paper="DIIF"):
        ours = count(row) / 1e6
        claims.append(
            Claim(
                "DIIF",
                "Table 1",
                "parameters",
                f"{row['method']} on {row['encoder']}: millions of parameters",
                row["value"],
                f"{ours:.3f}",
                agrees(as_printed(ours, row["value"]), NOT_REPRODUCED),
                "counted when the ledger is made",
            )
        )
    for row in paper_rows(metric="Params_wo_encoder_K_as_printed"):
        ours = (round(count(row) / 1e6, 3) - 1.220) * 1024
        name, table = row["method"].split(" ", 1)
        model = model_of(split(name)[0].lower(), "edsr-baseline", split(name)[1])
        decoder = count_parameters(model) - count_parameters(model.encoder)
        claims.append(
            Claim(
                "DIIF",
                table.strip("[]"),
                "parameters",
                f"{name}: thousands of parameters without the encoder",
                row["value"],
                f"{ours:.0f} as (millions - 1.220) x 1024; the decoder has {decoder:,}",
                agrees(as_printed(ours, row["value"]), NOT_REPRODUCED),
                "counted when the ledger is made",
            )
        )
    for row in paper_rows(metric="Params_M", paper="DIIN"):
        layers = int(row["method"].split("=")[1][0])
        with torch.device("meta"):
            model = build("diin", "paper", layers=layers)
        ours = (count_parameters(model) + FROZEN) / 1e6
        claims.append(
            Claim(
                "DIIN",
                "Table 4",
                "parameters",
                f"N={layers}: millions of parameters",
                row["value"],
                f"{ours:.3f}, our layer being filled up to fit these four",
                NOT_CHECKABLE,  # what was fitted proves nothing
                "counted when the ledger is made",
            )
        )
    return claims


def cost_claims() -> list[Claim]:
    """Every multiplication count of DIIF's Tables 1, 3 and 4, in the table's unit."""
    claims = []
    for row in paper_rows(metric="MACs_T_as_printed"):
        ours = table_unit(multiplied(row))
        name, _, table = row["method"].partition(" [")
        claims.append(
            Claim(
                "DIIF",
                table.strip("]") or "Table 1",
                "multiplications",
                f"{name} on {row['encoder']}, {row['dataset']} input, "
                f"×{row['scale'][1:]}: T multiplications, those below 1 T as G / 1024",
                row["value"],
                f"{ours:.4f}",
                agrees(as_printed(ours, row["value"]), NOT_REPRODUCED),
                "counted when the ledger is made",
            )
        )
    return claims
