"""What the pages say in numbers, written from the records.

    python tests/pages.py     rewrite README.md, docs/claims.md and docs/instructors.md

A block between <!-- NAME: make pages --> and <!-- end of NAME --> belongs to this file.
"""

import re
from itertools import combinations

import nbformat
from notebook_tools import NOTEBOOKS, ROOT

from asr_course.claims import VERDICTS, page, tally
from asr_course.compare import METHODS, plus_minus, seed_scores, separated
from asr_course.exam import spread
from asr_course.plots import markdown
from asr_course.records import load_record

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


BLOCKS = {
    ("README.md", "results"): results,
    ("README.md", "findings"): findings,
    ("README.md", "verdicts"): verdicts,
    ("docs/instructors.md", "exercises"): exercises,
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
    found = {name: written(name) for name, _ in BLOCKS}
    return found | {"docs/claims.md": page(ledger["rows"])}


if __name__ == "__main__":
    for page_name, page_text in pages().items():
        (ROOT / page_name).write_text(page_text)
        print(page_name)
