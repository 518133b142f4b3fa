"""The benchmark: every model, one input, one run; tables, growth and a figure."""

from collections.abc import Sequence

import numpy as np

from asr_course import plots
from asr_course.models import MODELS, SIZES
from asr_course.profile import profile

SCALES = (2, 4, 8, 16, 30)
LARGE = 1e5  # output pixels from which on growth is fitted: below, encoders count


def benchmark(
    names: Sequence[str],
    sizes: Sequence[str],
    lr_size: tuple[int, int],
    scales: Sequence[float],
    device="cpu",
    on_row=None,
) -> list[dict]:
    """Rows of `profile`: every model at every size and scale, LIIF first.

    A model that draws its answer is asked for the scales it was trained for only.
    on_row: called with every row as soon as it is there.
    """
    rows = []
    for size in sizes:
        for name in names:
            for scale in scales:
                if MODELS[name].generates and scale > SIZES[name][size].largest:
                    continue
                rows.append(profile(name, size, lr_size, scale, device))
                if on_row:
                    on_row(rows[-1])
    return rows


def growth_of(rows: list[dict]) -> list[dict]:
    """How the cost of each model at each size grows with the output.

    exponent: of CPU seconds as a power of the number of output pixels, by least
    squares over all rows of 100,000 pixels or more; 1 is proportional. us_per_pixel:
    CPU microseconds that another pixel costs, from the two largest outputs. mb: peak
    memory of the smallest and of the largest output, the picture itself left out.
    """
    found = []
    for model, size in dict.fromkeys((row["model"], row["size"]) for row in rows):
        own = [r for r in rows if (r["model"], r["size"]) == (model, size)]
        own = sorted(own, key=lambda row: row["pixels"])
        large = [r for r in own if r["pixels"] >= LARGE]
        if len(large) < 2:
            continue
        n, s = ([r[key] for r in large] for key in ("pixels", "cpu_seconds"))
        exponent, _ = np.polyfit(np.log(n), np.log(s), 1)
        mb = [r["peak_mb"] - 12 * r["pixels"] / 2**20 for r in (own[0], own[-1])]
        us = (s[-1] - s[-2]) / (n[-1] - n[-2]) * 1e6
        found.append(
            {
                "model": model,
                "size": size,
                "exponent": float(exponent),
                "us_per_pixel": us,
                "mb": mb,
            }
        )
    return found


COLUMNS = {  # heading: (width, what a row holds there)
    "model": (-8, "model"),
    "scale": (6, "scale"),
    "parameters": (11, "parameters"),
    "G MACs, paper": (14, "macs_paper"),
    "as we run": (10, "macs_run"),
    "seconds": (8, "seconds"),
    "CPU s": (7, "cpu_seconds"),
    "LIIF=1": (7, "unit"),
    "plain": (7, "plain_cpu_seconds"),
    "ratio": (6, "ratio"),
    "differ": (8, "plain_difference"),
    "peak MB": (8, "peak_mb"),
}
FORMATS = {
    "model": "{}",
    "scale": "{:g}",
    "parameters": "{:,}",
    "macs_paper": "{:,.2f}",
    "macs_run": "{:,.2f}",
    "ratio": "{:.1f}",
    "plain_difference": "{:.0e}",
    "peak_mb": "{:.0f}",
}


def format_profile(rows: list[dict]) -> str:
    """Rows of `profile` as a table for the terminal, sizes apart, LIIF as the unit."""
    lines, heads = [], {head: head for head in COLUMNS}
    for size in dict.fromkeys(row["size"] for row in rows):
        lines.append(line(heads))
        own = [row for row in rows if row["size"] == size]
        liif = {r["scale"]: r["cpu_seconds"] for r in own if r["model"] == "liif"}
        for row in own:
            shown, seconds = dict(row), row["cpu_seconds"]
            for count in ("macs_paper", "macs_run"):
                shown[count] = row[count] and row[count] / 1e9
            if row["scale"] in liif:
                shown["unit"] = seconds / liif[row["scale"]]
            if row["plain_cpu_seconds"]:
                shown["ratio"] = row["plain_cpu_seconds"] / seconds
            cells = {
                head: FORMATS.get(key, "{:.2f}").format(shown[key])
                for head, (_, key) in COLUMNS.items()
                if shown.get(key) is not None
            }
            lines.append(line(cells))
        lines.append(f"size {size}, input {rows[0]['lr']} (rows x columns)\n")
    for row in growth_of(rows):
        lines.append(
            f"{row['model']:8} {row['size']:7} CPU time grows as pixels^"
            f"{row['exponent']:.2f}, {row['us_per_pixel']:.2f} us for another pixel; "
            f"peak {row['mb'][0]:.0f} to {row['mb'][1]:.0f} MB besides the picture"
        )
    lines.append(
        "plain: CPU seconds of the formula as printed, 30,000 queries at a time; "
        "ratio: plain over ours; differ: the two answers' largest difference"
    )
    return "\n".join(lines)


def line(cells: dict[str, str]) -> str:
    """One line of the table: cells under their headings, left where width is < 0."""
    return " ".join(
        f"{cells.get(head, ''):{'<' if width < 0 else '>'}{abs(width)}}"
        for head, (width, _) in COLUMNS.items()
    ).rstrip()


def plot_growth(rows: list[dict]):
    """CPU seconds and memory against output pixels: a figure, one column per size."""
    sizes = list(dict.fromkeys(row["size"] for row in rows))
    figure, panels = plots.axes(len(sizes), width=4.6)
    for panel, size in zip(np.atleast_1d(panels), sizes, strict=True):
        own = [row for row in rows if row["size"] == size]
        for k, name in enumerate(dict.fromkeys(row["model"] for row in own)):
            drawn = [r for r in own if r["model"] == name]
            n, s = ([r[key] for r in drawn] for key in ("pixels", "cpu_seconds"))
            style = "o-" if k < len(plots.COLOURS) else "s--"
            panel.plot(n, s, style, markersize=3, label=name)
        panel.set(xscale="log", yscale="log", title=f"size {size}")
        panel.set(xlabel="output pixels", ylabel="CPU seconds")
    # Beside the panels: lines begin low on the left and end high on the right.
    panel.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.tight_layout()
    return figure
