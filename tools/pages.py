"""What the pages say in numbers, written from the records.

    python tools/pages.py     rewrite the tables of README.md and docs/

A block between <!-- NAME: make pages --> and <!-- end of NAME --> belongs to this file.
"""

import re
import tomllib
from functools import partial
from pathlib import PurePosixPath

import nbformat
import torch

from asr_course import models
from asr_course.data import PairRecipe
from asr_course.lessons.side_by_side import METHODS, plus_minus, seed_scores
from asr_course.plots import markdown
from asr_course.presets import PAPER_RECIPES, PRESETS
from asr_course.profile import count_parameters, macs_paper, multiplications
from asr_course.records import load_record, paper_rows, paper_values
from asr_course.weights import load_pretrained
from notebooks import NOTEBOOKS, ROOT, marks

TITLES = {name: method.__name__ for name, method in models.METHODS.items()}

# README.md ----------------------------------------------------------------------------

COLUMNS = [("set5", 2), ("set5", 3), ("set5", 4), ("set14", 2), ("set14", 4)]
SETS = {"set5": "Set5", "set14": "Set14"}
SINGLE = ("liif-8000", "liif")


def results() -> str:
    """PSNR of every method with its spread over seeds, and what it costs."""
    single = {
        (row["model"], row["data"], row["scale"]): f"{row['psnr_y']:.2f}"
        for record in ("liif_scores", "flagship_scores")
        for row in load_record(record)["rows"]
    }
    cost = load_record("profile_laptop")["rows"]
    cost = {row["model"]: row for row in cost if row["scale"] == 4}
    price = {
        name: [
            f"{cost[name]['parameters'] / 1e3:.0f} k",
            f"{cost[name]['cpu_seconds'] / cost['liif']['cpu_seconds']:.1f}",
        ]
        for name in METHODS
    }
    rows = [["bicubic", *(single["bicubic", d, s] for d, s in COLUMNS), "", ""]]
    for name in METHODS:
        scores = [plus_minus(seed_scores(name, d, s)) for d, s in COLUMNS]
        rows.append([TITLES[name], *scores, *price[name]])
    longer, default = ([single[m, d, s] for d, s in COLUMNS] for m in SINGLE)
    rows.append(["LIIF, seed 0, 8,000 steps", *longer, *price["liif"]])
    count = count_parameters(load_pretrained("liif"))
    rows.append(["**`liif`**, the default", *default, f"{count / 1e3:,.0f} k", ""])
    heads = [f"{SETS[d]} ×{s}" for d, s in COLUMNS]
    return markdown(["PSNR-Y, dB", *heads, "parameters", "CPU time"], rows)


# docs/instructors.md ------------------------------------------------------------------


def exercises() -> str:
    """Every exercise with its minutes."""
    rows = []
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        text = "\n".join(cell.source for cell in notebook.cells)
        heads = re.findall(r"### Exercise \d · (.*?) \((\w+), (\d+) minutes\)", text)
        names = marks(notebook, "stub")
        for name, (title, level, minutes) in zip(names, heads, strict=True):
            number = path.stem[:2].lstrip("0")
            rows.append([number, f"`{name}` {title}", minutes, level])
    return markdown(["notebook", "exercise", "minutes", ""], rows)


# docs/training.md ---------------------------------------------------------------------

SHAPES = {
    "halve": "halved at each fifth",
    "late": "halved at 50, 80, 90, 95 %",
    "cosine": "{warmup:,} steps up, then a cosine",
    "stages": "a fifth of it for the last third",
}


def recipes() -> str:
    """What `train --preset paper` does for each method; equal recipes in one row."""
    rows, groups = [], {}
    for key, plan in PAPER_RECIPES.items():
        name, _, encoder = key.partition("-")
        groups.setdefault((plan, encoder), []).append(f"`{name}`")
    for (plan, encoder), names in groups.items():
        model = ", ".join(names) + (f" with `--encoder {encoder}`" if encoder else "")
        schedule, shape = plan.schedule, SHAPES[plan.schedule.shape]
        rate = f"{schedule.rate:g}, {shape.format(warmup=schedule.warmup)}"
        numbers = f"{schedule.steps:,}", str(plan.recipe.batch)
        rows.append([model, *numbers, *samples_of(plan.recipe), rate])
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
    """Multiplications of a training sample, forwards, by the formulas as printed.

    The mean over scales where there are several. For IDM they are counted: at x8, and
    at three of the random sizes of the last third.
    """
    recipe = PAPER_RECIPES[name].recipe
    with torch.device("meta"):  # nothing is computed, and no weight needs memory
        model = models.build(name, "paper", encoder)
        if name == "idm":
            lr, level = torch.empty(1, 3, recipe.patch, recipe.patch), torch.empty(1)
            random = [round(recipe.patch * scale) for scale in (2.17, 4.5, 6.83)]
            count = {
                n: multiplications(partial(model, lr, torch.empty(1, 3, n, n), level))
                for n in (recipe.crop, *random)
            }
            return (6 * count[recipe.crop] + sum(count[n] for n in random)) / 9
    outputs = [(recipe.patch, recipe.patch * s) for s in recipe.scales]
    if recipe.hr:
        outputs = [(round(recipe.hr / s), recipe.hr) for s in recipe.scales]
    outputs = outputs or [(recipe.patch, recipe.queries**0.5)]
    counts = [macs_paper(model, (p, p), side / p) for p, side in outputs]
    return sum(counts) / len(counts)


def curve() -> str:
    """PSNR on Y of the default LIIF on its way, by the CPU hours spent."""
    places, found = [(d, s) for d in SETS for s in (2, 3, 4)], {}
    for row in load_record("flagship_curve")["rows"]:
        scores = found.setdefault((row["steps"], row["cpu_hours"]), {})
        scores[row["data"], row["scale"]] = f"{row['psnr_y']:.2f}"
    rows = [
        [f"{steps:,}", f"{hours:.1f}", *(scores[place] for place in places)]
        for (steps, hours), scores in found.items()
    ]
    heads = [f"{SETS[d]} ×{s}" for d, s in places]
    return markdown(["steps", "CPU hours", *heads], rows)


SUSTAINED = 10e12  # operations a second, an assumption


def quick() -> str:
    """What the preset gpu computes: operations of a step, of all steps, and minutes."""
    rows, preset = [], PRESETS["gpu"]
    for name, title in TITLES.items():
        plan = preset.digits if name == "idm" else preset.lesson
        with torch.device("meta"):
            model = models.build(name, plan.size)
            side = plan.recipe.patch
            if name == "idm":  # the largest of its pictures
                crop, level = plan.recipe.crop, torch.empty(1)
                y, lr = torch.empty(1, 3, crop, crop), torch.empty(1, 3, side, side)
                macs = multiplications(partial(model, lr, y, level))
            else:
                macs = macs_paper(model, (side, side), plan.recipe.queries**0.5 / side)
        # Forwards, and twice as much backwards; two operations for a pair.
        step = 6 * plan.recipe.batch * macs
        total = step * plan.schedule.steps
        cells = f"{step / 1e12:.2f}", f"{plan.schedule.steps:,}", f"{total / 1e15:.1f}"
        minutes = "" if name == "idm" else f"{total / SUSTAINED / 60:.0f}"
        rows.append([title, *cells, minutes])
    heads = ["", "TFLOP a step", "steps", "PFLOP", "minutes, estimate"]
    return markdown(heads, rows)


def cost() -> str:
    """What the recipes compute in all; hours by an assumed speed."""
    rows = []
    for name, title in TITLES.items():
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
    """PSNR that the papers print, at the scales of training; IDM's faces below."""
    rows, scales = [], ("x2", "x3", "x4")
    for title in ("Bicubic", *TITLES.values()):
        for encoder in ("-", "EDSR-baseline", "RDN"):
            div2k = paper_values(title, encoder, "DIV2K-val", "RGB")
            set5 = paper_values(title, encoder, "Set5", "Y")
            if title == "IDM" or not set(scales) <= set(div2k):
                continue
            printed = [x.get(s) for x in (div2k, set5) for s in scales]
            cells = [f"{x:.2f}" if x else "" for x in printed]
            rows.append([title, "" if encoder == "-" else encoder, *cells])
    heads = [f"{data} ×{s}" for data in ("DIV2K", "Set5 (Y)") for s in (2, 3, 4)]
    faces = paper_rows(paper="IDM", method="IDM", dataset="CelebA-HQ-100")
    faces = {row["metric"]: row["value"] for row in faces}
    return markdown(["PSNR, dB", "encoder", *heads], rows) + (
        f"\n\nIDM, faces of 16 × 16 to 128 × 128: PSNR {faces['PSNR']} dB, SSIM "
        f"{faces['SSIM']}, consistency {faces['Consistency_MSEx1e-5']} · 10⁻⁵."
    )


# docs/benchmark.md --------------------------------------------------------------------


def machine() -> str:
    """Where the benchmark ran."""
    record = load_record("benchmark")
    return f"Recorded on {record['hardware']}, torch {record['torch']}."


def costs(size: str) -> str:
    """What every model costs at one size, LIIF as the unit of time."""
    rows = [r for r in load_record("benchmark")["rows"] if r["size"] == size]
    at = {(row["model"], row["scale"]): row for row in rows}
    names, scales = (dict.fromkeys(row[k] for row in rows) for k in ("model", "scale"))
    seconds = {key: row["cpu_seconds"] for key, row in at.items()}
    table = []
    for name in names:
        four = at[name, 4]
        paper = four["macs_paper"] and f"{four['macs_paper'] / 1e9:.1f} G"
        counts = (
            f"{four['parameters']:,}",
            paper or "",
            f"{four['macs_run'] / 1e9:.1f} G",
        )
        units = [
            f"{seconds[name, s] / seconds['liif', s]:.2f}" if (name, s) in at else ""
            for s in scales
        ]
        table.append([TITLES[name], *counts, *units])
    liif = [f"{seconds['liif', s]:.2f} s" for s in scales]
    heads = ["", "parameters", "multiplications ×4", "as we run"]
    table.append(["LIIF's seconds", "", "", "", *liif])
    return markdown([*heads, *(f"×{s}" for s in scales)], table)


def plain() -> str:
    """Time of the formula as printed over ours, and how far the outputs are apart."""
    rows = [r for r in load_record("benchmark")["rows"] if r["plain_cpu_seconds"]]
    scales = dict.fromkeys(row["scale"] for row in rows)
    groups = {}
    for row in rows:
        groups.setdefault((row["model"], row["size"]), {})[row["scale"]] = row
    table = []
    for (model, size), found in groups.items():
        ratios = [r["plain_cpu_seconds"] / r["cpu_seconds"] for r in found.values()]
        apart = max(r["plain_difference"] for r in found.values())
        ratios = [f"{ratio:.1f}" for ratio in ratios]
        table.append([TITLES[model], size, *ratios, f"{apart:.0e}"])
    return markdown(["", "size", *(f"×{s}" for s in scales), "apart by at most"], table)


def growth() -> str:
    """How time and memory grow with the output."""
    rows = [
        [
            TITLES[row["model"]],
            row["size"],
            f"{row['exponent']:.2f}",
            f"{row['us_per_pixel']:.2f}",
            f"{row['mb'][0]:.0f} to {row['mb'][1]:.0f} MB",
        ]
        for row in load_record("benchmark")["growth"]
    ]
    heads = ["", "size", "time grows as pixels to the", "µs for another pixel"]
    return markdown([*heads, "memory"], rows)


# docs/claims.md -----------------------------------------------------------------------


def claims_of(paper: str) -> str:
    """A paper's rows of data/claims.toml."""
    kinds = {"data/results": "record", "data": "the paper's table", "tests": "test"}
    rows = []
    for row in tomllib.loads((ROOT / "data/claims.toml").read_text()).values():
        if row["paper"] != paper:
            continue
        file = row["how"].partition("::")[0]
        kind = kinds.get(str(PurePosixPath(file).parent), "its place")
        here = [row["here"]]
        link = file if file.startswith("https://") else f"../{file}"
        here.append(f"([{kind}]({link}))")
        claim = f"**{row['place']}.** {row['claim']}"
        rows.append([claim, row["printed"], " ".join(here), row["verdict"]])
    return markdown([f"{paper} says", "in print", "here", "verdict"], rows)


BLOCKS = {
    ("README.md", "results"): results,
    ("docs/instructors.md", "exercises"): exercises,
    ("docs/training.md", "quick"): quick,
    ("docs/training.md", "recipes"): recipes,
    ("docs/training.md", "curve"): curve,
    ("docs/training.md", "cost"): cost,
    ("docs/training.md", "expected"): expected,
    ("docs/benchmark.md", "machine"): machine,
    ("docs/benchmark.md", "paper"): partial(costs, "paper"),
    ("docs/benchmark.md", "laptop"): partial(costs, "laptop"),
    ("docs/benchmark.md", "plain"): plain,
    ("docs/benchmark.md", "growth"): growth,
    **{
        ("docs/claims.md", paper): partial(claims_of, paper)
        for paper in ("DIINN", "DIIF", "HIIF", "DIIN", "IDM")
    },
}


def pages() -> dict[str, str]:
    """Every page with its blocks made anew: {name: text}."""
    texts = {}
    for (name, block), make in BLOCKS.items():
        text = texts.get(name) or (ROOT / name).read_text()
        start, end = f"<!-- {block}: make pages -->\n", f"<!-- end of {block} -->"
        before, rest = text.split(start)
        texts[name] = before + start + make() + "\n" + end + rest.split(end)[1]
    return texts


if __name__ == "__main__":
    for page_name, page_text in pages().items():
        (ROOT / page_name).write_text(page_text)
        print(page_name)
