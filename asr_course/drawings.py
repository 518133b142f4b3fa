"""The idea of each method in one picture."""

import matplotlib.pyplot as plt
from matplotlib.patches import Rectangle

from asr_course.plots import COLOURS


def liif_idea():
    """Four latent codes around a query, and the rectangle that weighs each of them."""
    figure, plot = plt.subplots(figsize=(5.2, 5.2))
    query = (0.4, 0.62)  # row and column, in pixels from the upper left latent
    centres = {"$z_{00}$": (0, 0), "$z_{01}$": (0, 1), "$z_{10}$": (1, 0)}
    centres["$z_{11}$"] = (1, 1)
    for colour, (name, (row, col)) in zip(COLOURS, centres.items(), strict=False):
        rows = sorted((query[0], 1 - row))
        cols = sorted((query[1], 1 - col))
        width, height = cols[1] - cols[0], rows[1] - rows[0]
        plot.add_patch(
            Rectangle((cols[0], rows[0]), width, height, color=colour, alpha=0.35)
        )
        middle = (sum(cols) / 2, sum(rows) / 2)
        label = f"weighs\n{name}: {width * height:.2f}"
        plot.annotate(label, middle, ha="center", va="center", fontsize=10)
        plot.plot(col, row, "o", color=colour, markersize=13)
        side = -1 if col == 0 else 1
        plot.annotate(
            name, (col + 0.17 * side, row), ha="center", va="center", fontsize=14
        )
    plot.plot(query[1], query[0], "o", color="black", markersize=9)
    plot.annotate(
        "query $x$",
        (query[1], query[0]),
        (0.62, -0.3),
        ha="center",
        fontsize=13,
        arrowprops={"arrowstyle": "->"},
    )
    for edge in (-0.5, 0.5, 1.5):
        plot.axhline(edge, color="0.7", linewidth=1)
        plot.axvline(edge, color="0.7", linewidth=1)
    plot.set(xlim=(-0.5, 1.5), ylim=(1.5, -0.5), aspect="equal")
    plot.set(xlabel="column, in low-resolution pixels", ylabel="row")
    plot.set_xticks([0, 1])
    plot.set_yticks([0, 1])
    return figure
