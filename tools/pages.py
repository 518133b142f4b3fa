"""What the pages say in numbers, written from the records.

    python tests/pages.py     rewrite README.md and what it makes of docs/

A block between <!-- NAME: make pages --> and <!-- end of NAME --> belongs to this file.
"""

import re
from functools import partial
from itertools import combinations

import nbformat
import torch
from notebook_tools import NOTEBOOKS, ROOT

from asr_course.claims import VERDICTS, page, tally
from asr_course.lessons.side_by_side import METHODS, plus_minus, seed_scores, separated
from asr_course.data import PairRecipe
from asr_course.lessons.exam import spread
from asr_course.models import build
from asr_course.plots import markdown
from asr_course.presets import PAPER_RECIPES
from asr_course.profile import macs_paper, multiplications
from asr_course.records import load_record, paper_rows, paper_values

COLUMNS = [("set5", 2), ("set5", 3), ("set5", 4), ("set14", 2), ("set14", 4)]


def single_runs() -> dict[tuple, float]:
    """PSNR on Y of bicubic and of our LIIFs: {(model, data, scale): dB}."""
    return {
        (row["model"], row["data"], row["scale"]): row["psnr_y"]
        for row in load_record("liif_scores")["rows"]
    }


def results() -> str:
    """Quality with its spread, and what it costs."""
    single = single_runs()
    cost = {
        row["model"]: row
        for row in load_record("profile_laptop")["rows"]
        if row["scale"] == 4
    }
    time = {name: cost[name]["cpu_seconds"] for name in METHODS}
    bicubic = [f"{single['bicubic', d, s]:.2f}" for d, s in COLUMNS]
    rows = [["bicubic", *bicubic, "", ""]]
    for name in METHODS:
        scores = [plus_minus(seed_scores(name, d, s)) for d, s in COLUMNS]
        share = f"{time[name] / time['liif']:.1f}"
        rows.append(
            [name.upper(), *scores, f"{cost[name]['parameters'] / 1e3:.0f} k", share]
        )
    default = [f"{single['liif', d, s]:.2f}" for d, s in COLUMNS]
    same = rows[1 + METHODS.index("liif")][-2:]  # the same network, trained for longer
    rows.append(["`liif`, 8,000 steps", *default, *same])
    names = {"set5": "Set5", "set14": "Set14"}
    heads = ["PSNR-Y, dB", *(f"{names[d]} ×{s}" for d, s in COLUMNS)]
    return markdown([*heads, "parameters", "CPU time"], rows)


def findings() -> str:
    """What the results say, in sentences."""
    lines, single = [], single_runs()
    pairs = list(combinations(METHODS, 2))
    for data, title in (("set5", "Set5"), ("set14", "Set14")):
        for scale in (2, 4):
            scores = {name: seed_scores(name, data, scale) for name in METHODS}
            means = {name: spread(values)["mean"] for name, values in scores.items()}
            order = sorted(METHODS, key=means.get)
            apart = sum(separated(scores[a], scores[b]) != 0 for a, b in pairs)
            lines.append(
                f"* **{title} ×{scale}**: {apart} of {len(pairs)} pairs of methods are "
                f"apart. {order[-1].upper()} is first, {order[0].upper()} last, "
                f"{means[order[-1]] - means[order[0]]:.2f} dB between them."
            )
    names = ("liif-recipe", "liif", "liif-procedural")
    two, four = ([single[name, "set5", s] for name in names] for s in (2, 4))
    lines.append(
        "* **The recipe**, on Set5 at ×2 and ×4: 5,000 more steps give LIIF "
        f"{two[1] - two[0]:+.2f} and {four[1] - four[0]:+.2f} dB, photographs in place "
        f"of drawn pictures {two[0] - two[2]:+.2f} and {four[0] - four[2]:+.2f} dB "
        "(one run each)."
    )
    return "\n".join(lines)


def verdicts() -> str:
    """How many claims of each paper met which verdict."""
    found = tally(load_record("claims")["rows"])
    papers = sorted({paper for paper, _ in found})
    rows = [[v, *(str(found[p, v]) for p in papers)] for v in VERDICTS]
    return markdown(["verdict", *papers], rows)


def exercises() -> str:
    """Every exercise with its minutes."""
    rows = []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        marks = (cell.metadata.get("asr", {}) for cell in notebook.cells)
        names = [mark["stub"] for mark in marks if "stub" in mark]
        text = "\n".join(cell.source for cell in notebook.cells)
        heads = re.findall(r"### Exercise \d · (.*?) \((\w+), (\d+) minutes\)", text)
        for name, (title, level, minutes) in zip(names, heads, strict=True):
            number = path.stem[:2].lstrip("0")
            rows.append([number, f"`{name}` {title}", minutes, level])
    return markdown(["notebook", "exercise", "minutes", ""], rows)


# docs/training.md ---------------------------------------------------------------------

PAPER_NAMES = {
    "liif": "LIIF",
    "metasr": "MetaSR",
    "lte": "LTE",
    "diinn": "DIINN",
    "diif": "DIIF",
    "dlte": "DLTE",
    "hiif": "HIIF",
    "diin": "DIIN",
    "idm": "IDM",
}
SHAPES = {
    "halve": "halved at each fifth",
    "late": "halved at 50, 80, 90, 95 %",
    "cosine": "{warmup:,} steps up, then a cosine",
    "stages": "a fifth of it for the last third",
}


def recipes() -> str:
    """What `train --preset gpu` does for each method; equal recipes in one row."""
    rows, seen = [], {}
    for key, plan in PAPER_RECIPES.items():
        name, _, encoder = key.partition("-")
        seen.setdefault((plan, encoder), []).append(f"`{name}`")
    for (plan, encoder), names in seen.items():
        said = ", ".join(names) + (f" with `--encoder {encoder}`" if encoder else "")
        schedule, shape = plan.schedule, SHAPES[plan.schedule.shape]
        rate = f"{schedule.rate:g}, {shape.format(warmup=schedule.warmup)}"
        numbers = f"{schedule.steps:,}", str(plan.recipe.batch)
        rows.append([said, *numbers, *samples_of(plan.recipe), rate])
    heads = ["`--model`", "steps", "batch", "inputs", "scales", "pixels answered"]
    return markdown([*heads, "rate"], rows)


def samples_of(recipe) -> tuple[str, str, str]:
    """Inputs, scales and answered pixels of a recipe, in words."""
    patch = f"{recipe.patch} × {recipe.patch}"
    if isinstance(recipe, PairRecipe):
        largest = f"×{recipe.scale_max:g}"
        return patch, f"{largest}, then ×1 to {largest}", "all"
    scales = f"×{recipe.scale_min:g} to ×{recipe.scale_max:g}"
    if recipe.scales:
        scales = ", ".join(f"×{s:g}" for s in recipe.scales)
        scales = ("each of " if recipe.mixed else "one of ") + scales
    patch = f"{recipe.hr} × {recipe.hr} / scale" if recipe.hr else patch
    whole = recipe.queries >= recipe.crop**2
    return patch, scales, "all" if whole else f"{recipe.queries:,}"


def macs_of_sample(name: str, encoder: str) -> float:
    """Multiplications of a training sample on its way forwards, by the formulas.

    The mean over scales where there are several. For IDM they are counted: at x8, and
    at three of the random sizes of the last third.
    """
    recipe = PAPER_RECIPES[name].recipe
    with torch.device("meta"):  # nothing is computed, and no weight needs memory
        model = build(name, "paper", encoder)
        if name == "idm":
            lr, level = torch.empty(1, 3, recipe.patch, recipe.patch), torch.empty(1)
            sides = [recipe.crop] * 6
            sides += [round(recipe.patch * s) for s in (2.17, 4.5, 6.83)]
            outputs = {n: torch.empty(1, 3, n, n) for n in sides}
            counts = {
                n: multiplications(partial(model, lr, y, level))
                for n, y in outputs.items()
            }
            return sum(counts[n] for n in sides) / len(sides)
    outputs = [(recipe.patch, recipe.patch * s) for s in recipe.scales]
    if recipe.hr:
        outputs = [(round(recipe.hr / s), recipe.hr) for s in recipe.scales]
    outputs = outputs or [(recipe.patch, recipe.queries**0.5)]
    counts = [macs_paper(model, (p, p), side / p) for p, side in outputs]
    return sum(counts) / len(counts)


SUSTAINED = 10e12  # operations a second, an assumption


def cost() -> str:
    """What the recipes compute in all; hours by an assumed speed."""
    rows = []
    for name, title in PAPER_NAMES.items():
        plan, row = PAPER_RECIPES[name], [title]
        for encoder in ("edsr-baseline", "rdn"):
            if name == "idm" and encoder == "rdn":
                row += ["", ""]
                continue
            # Forwards, and twice as much backwards; two operations for a pair.
            step = 6 * plan.recipe.batch * macs_of_sample(name, encoder)
            total = step * plan.schedule.steps
            row += [f"{total / 1e18:.2f}", f"{total / SUSTAINED / 3600:,.0f}"]
        rows.append(row)
    heads = ["", "EDSR-baseline: EFLOP", "GPU-hours, estimate", "RDN: EFLOP"]
    return markdown([*heads, "GPU-hours, estimate"], rows)


def expected() -> str:
    """PSNR that the papers print, at the scales of training."""
    rows, scales = [], ("x2", "x3", "x4")
    for name, title in {"": "Bicubic", **PAPER_NAMES}.items():
        for encoder in ("-", "EDSR-baseline", "RDN"):
            div2k = paper_values(title, encoder, "DIV2K-val", "RGB")
            set5 = paper_values(title, encoder, "Set5", "Y")
            if name == "idm" or not set(scales) <= set(div2k):
                continue
            cells = [
                f"{x[s]:.2f}" if s in x else "" for x in (div2k, set5) for s in scales
            ]
            rows.append([title, "" if encoder == "-" else encoder, *cells])
    heads = [f"{data} ×{s}" for data in ("DIV2K", "Set5 (Y)") for s in (2, 3, 4)]
    return markdown(["PSNR, dB", "encoder", *heads], rows)


def faces() -> str:
    """What IDM prints for faces, in a sentence."""
    found = {
        row["metric"]: row["value"]
        for row in paper_rows(paper="IDM", method="IDM", dataset="CelebA-HQ-100")
    }
    return (
        f"IDM, faces of 16 × 16 to 128 × 128: PSNR {found['PSNR']} dB, SSIM "
        f"{found['SSIM']}, consistency {found['Consistency_MSEx1e-5']} · 10⁻⁵."
    )


def profiled(size: str) -> list[dict]:
    """The benchmark's rows of one size."""
    return [r for r in load_record("benchmark")["rows"] if r["size"] == size]


def machine() -> str:
    """Where the benchmark ran."""
    record = load_record("benchmark")
    return f"Recorded on {record['hardware']}, torch {record['torch']}."


def costs(size: str) -> str:
    """What every model costs at one size, LIIF as the unit of time."""
    rows = profiled(size)
    at = {(row["model"], row["scale"]): row for row in rows}
    models, scales = (dict.fromkeys(row[k] for row in rows) for k in ("model", "scale"))
    table = []
    for model in models:
        four = at[model, 4]
        paper = four["macs_paper"] and f"{four['macs_paper'] / 1e9:.1f} G"
        own = [at.get((model, scale)) for scale in scales]
        units = [
            f"{row['cpu_seconds'] / at['liif', row['scale']]['cpu_seconds']:.2f}"
            if row
            else ""
            for row in own
        ]
        counts = [
            f"{four['parameters']:,}",
            paper or "",
            f"{four['macs_run'] / 1e9:.1f} G",
        ]
        table.append([PAPER_NAMES[model], *counts, *units])
    liif = [f"{at['liif', scale]['cpu_seconds']:.2f} s" for scale in scales]
    heads = [
        "parameters",
        "multiplications ×4",
        "as we run",
        *(f"×{s}" for s in scales),
    ]
    return markdown(["", *heads], [*table, ["LIIF's seconds", "", "", "", *liif]])


def plain() -> str:
    """The formula as printed over ours, and how far the two are apart."""
    rows = [r for size in ("paper", "laptop") for r in profiled(size)]
    rows = [r for r in rows if r["plain_cpu_seconds"]]
    scales = dict.fromkeys(row["scale"] for row in rows)
    table = {}
    for row in rows:
        ratio = row["plain_cpu_seconds"] / row["cpu_seconds"]
        cells = table.setdefault((row["model"], row["size"]), {})
        cells[row["scale"]] = f"{ratio:.1f}"
        cells["apart"] = max(cells.get("apart", 0), row["plain_difference"])
    return markdown(
        ["", "size", *(f"×{s}" for s in scales), "apart by at most"],
        [
            [PAPER_NAMES[model], size, *(cells.get(s, "") for s in scales)]
            + [f"{cells['apart']:.0e}"]
            for (model, size), cells in table.items()
        ],
    )


def growth() -> str:
    """How time and memory grow with the output."""
    return markdown(
        ["", "size", "time grows as pixels to the", "µs for another pixel", "memory"],
        [
            [
                PAPER_NAMES[row["model"]],
                row["size"],
                f"{row['exponent']:.2f}",
                f"{row['us_per_pixel']:.2f}",
                f"{row['mb'][0]:.0f} to {row['mb'][1]:.0f} MB",
            ]
            for row in load_record("benchmark")["growth"]
        ],
    )


BLOCKS = {
    ("README.md", "results"): results,
    ("README.md", "findings"): findings,
    ("README.md", "verdicts"): verdicts,
    ("docs/instructors.md", "exercises"): exercises,
    ("docs/training.md", "recipes"): recipes,
    ("docs/training.md", "cost"): cost,
    ("docs/training.md", "expected"): expected,
    ("docs/training.md", "faces"): faces,
    ("docs/benchmark.md", "machine"): machine,
    ("docs/benchmark.md", "paper"): partial(costs, "paper"),
    ("docs/benchmark.md", "laptop"): partial(costs, "laptop"),
    ("docs/benchmark.md", "plain"): plain,
    ("docs/benchmark.md", "growth"): growth,
}


def written(name: str) -> str:
    """The text of a page with its blocks made anew."""
    text = (ROOT / name).read_text()
    for (file, block), make in BLOCKS.items():
        if file != name:
            continue
        start, end = f"<!-- {block}: make pages -->\n", f"<!-- end of {block} -->"
        before, found, rest = text.partition(start)
        assert found and end in rest, f"{name} has no block {block}"
        text = before + start + make() + "\n" + end + rest.partition(end)[2]
    return text


def pages() -> dict[str, str]:
    """Every page that is written from records: {name: text}."""
    ledger = load_record("claims")
    found = {name: written(name) for name in dict.fromkeys(n for n, _ in BLOCKS)}
    return found | {"docs/claims.md": page(ledger["rows"])}


if __name__ == "__main__":
    for page_name, page_text in pages().items():
        (ROOT / page_name).write_text(page_text)
        print(page_name)
