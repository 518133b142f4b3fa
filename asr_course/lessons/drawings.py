"""The idea of each method in one picture."""

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch, Rectangle

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


def box(plot, middle: tuple[float, float], size, text: str, colour) -> None:
    """A coloured box with words in it; places and sizes as (x, y)."""
    corner = middle[0] - size[0] / 2, middle[1] - size[1] / 2
    look = {"facecolor": colour, "edgecolor": "none", "alpha": 0.3}
    plot.add_patch(FancyBboxPatch(corner, *size, boxstyle="round,pad=0.02", **look))
    plot.annotate(text, middle, ha="center", va="center", fontsize=10)


def arrow(plot, start, end, bend: float = 0) -> None:
    """An arrow from (x, y) to (x, y), bent to one side if `bend` is not 0."""
    style = {"arrowstyle": "-|>", "color": "0.35", "shrinkA": 0, "shrinkB": 0}
    style["connectionstyle"] = f"arc3,rad={bend}"
    plot.annotate("", end, start, arrowprops=style)


def diinn_idea():
    """Two branches side by side: content above, position below, products between."""
    figure, plot = plt.subplots(figsize=(9.2, 4.0))
    content, position, both = COLOURS[:3]
    size = 1.1, 0.48
    box(plot, (0, 3), size, "content $z$", content)
    box(plot, (0, 0), size, "position $p$", position)
    for k in range(3):
        x = 1.9 + 1.9 * k
        box(plot, (x, 2.1), size, f"ReLU: $m_{k}$", content)
        box(plot, (x, 0), size, "sine", position)
        plot.plot(x, 1.05, "o", color=both, markersize=17, alpha=0.5)
        plot.annotate("×", (x, 1.04), ha="center", va="center", fontsize=15)
        plot.annotate(f"$s_{k}$", (x + 0.42, 0.98 if k < 2 else 1.2), fontsize=12)
        arrow(plot, (x, 1.84), (x, 1.26))
        arrow(plot, (x, 0.26), (x, 0.84))
        arrow(plot, (x, 3), (x, 2.38))
        if k < 2:
            arrow(plot, (x + 0.2, 1.15), (x + 1.3, 1.98), 0.12)
            arrow(plot, (x + 0.2, 0.95), (x + 1.3, 0.12), -0.12)
    arrow(plot, (0.57, 0), (1.33, 0))
    plot.plot([0.57, 5.7], [3, 3], color="0.35", linewidth=1.2)
    box(plot, (7.3, 1.05), size, "colour", both)
    arrow(plot, (5.92, 1.05), (6.73, 1.05))
    plot.annotate("modulation branch", (0.72, 3.12), fontsize=10, color=content)
    plot.annotate("synthesis branch", (1.4, -0.55), fontsize=10, color=position)
    plot.set(xlim=(-0.6, 7.9), ylim=(-0.7, 3.4), aspect="equal")
    plot.axis("off")
    return figure


def diif_idea():
    """A group of 4 x 4 output pixels, cut into slices, and the two stages."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(9.6, 3.6), width_ratios=(1, 1.75), layout="constrained"
    )
    draw_group(left)
    coarse, fine, blend = COLOURS[:3]
    size = 1.1, 0.8
    box(right, (0, 0), size, "4 × 4 codes,\nends of\na slice,\npixel size", "0.6")
    box(right, (1.5, 0), size, "coarse stage", coarse)
    box(right, (3, 0), size, "blend four\ncorners", blend)
    box(right, (4.5, 0), size, "fine stage", fine)
    box(right, (6, 0), size, "colour", "0.6")
    for k in range(4):
        arrow(right, (1.5 * k + 0.6, 0), (1.5 * k + 0.9, 0))
    right.annotate("$H_t$", (2.25, 0.1), ha="center", fontsize=11)
    right.annotate("$H(x)$", (3.75, 0.5), ha="center", fontsize=11)
    for start, end, text in (
        (0.95, 2.05, "once per slice\nand corner"),
        (2.45, 5.05, "once per pixel"),
    ):
        right.plot([start, end], [-0.62, -0.62], color="black")
        right.annotate(text, ((start + end) / 2, -0.7), ha="center", va="top")
    right.annotate(
        "place $x$ in\nthe group", (4.5, 0.95), ha="center", va="center", fontsize=9
    )
    arrow(right, (4.5, 0.72), (4.5, 0.44))
    right.set(xlim=(-0.65, 6.65), ylim=(-1.25, 1.25), aspect="equal")
    right.axis("off")
    return figure


def draw_group(plot) -> None:
    """Four slices of four pixels, the group's centre and its corners."""
    for row in range(4):
        for col in range(4):
            place = (col / 4 + 0.02, row / 4 + 0.02)
            plot.add_patch(Rectangle(place, 0.21, 0.21, color=COLOURS[row], alpha=0.5))
    middle = {"ha": "center", "va": "center"}
    for row in (0, 1):
        for col in (0, 1):
            plot.plot(col, row, "s", color="black", markersize=9)
            place = (-0.1 if col == 0 else 1.1, -0.09 if row == 0 else 1.11)
            plot.annotate(f"$v_{{{row}{col}}}$", place, fontsize=13, **middle)
    plot.plot(0.5, 0.5, "o", color="black", markersize=6)
    plot.annotate("$v$", (0.53, 0.47), fontsize=13)
    for col, name in ((0.125, "$x_{first}$"), (0.875, "$x_{last}$")):
        plot.annotate(name, (col, 0.64), ha="center", fontsize=9)
    plot.set(xlim=(-0.2, 1.2), ylim=(1.2, -0.2), aspect="equal")
    plot.set_title("one group at ×4: four slices", fontsize=11)
    plot.axis("off")


def hiif_idea():
    """Binary digits of a place, and the levels of the network that they enter."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.4, 3.7), width_ratios=(1, 2.2), layout="constrained"
    )
    draw_digits(left, place=(0.66, 0.3))
    codes, level, mix = COLOURS[:3]
    box(right, (0, 0), (1.0, 0.8), "four\ncodes,\npixel size", "0.6")
    arrow(right, (0.55, 0), (0.86, 0))
    names = ["level 0", "attention", "attention", "level 1", "...", "level 5"]
    for k, name in enumerate(names):
        x = 1.4 + 1.32 * k
        colour = mix if name == "attention" else level
        if name == "...":
            right.annotate("…", (x, 0), ha="center", va="center", fontsize=16)
        else:
            box(right, (x, 0), (0.98, 0.8), name, colour)
        arrow(right, (x + 0.53, 0), (x + 0.79, 0))
    for x, k in ((1.4, 0), (1.4 + 3 * 1.32, 1), (1.4 + 5 * 1.32, 5)):
        right.annotate(f"digits {k}", (x, 1.12), ha="center", va="center", fontsize=10)
        arrow(right, (x, 0.96), (x, 0.46))
    box(right, (1.4 + 6 * 1.32, 0), (0.86, 0.8), "colour", "0.6")
    middle = 1.4 + 1.5 * 1.32
    right.annotate(
        "all queries\ntogether", (middle, -1.12), ha="center", va="center", fontsize=10
    )
    for k in (1, 2):
        arrow(right, (middle, -0.86), (1.4 + 1.32 * k, -0.46))
    right.set(xlim=(-0.6, 9.9), ylim=(-1.4, 1.4), aspect="equal")
    right.axis("off")
    return figure


def draw_digits(plot, place: tuple[float, float]) -> None:
    """The square between four codes, halved again and again around one place."""
    corner, size = [0.0, 0.0], 1.0
    for level in range(3):
        size /= 2
        for axis in (0, 1):
            if place[axis] >= corner[axis] + size:
                corner[axis] += size
        plot.add_patch(
            Rectangle((corner[1], corner[0]), size, size, color=COLOURS[1], alpha=0.22)
        )
        spot = corner[1] + size - 0.012, corner[0] + size - 0.012
        plot.annotate(str(level), spot, ha="right", va="bottom", fontsize=8)
    for edge in (0, 0.25, 0.5, 0.75, 1):
        for line in (plot.axhline, plot.axvline):
            line(edge, color="0.6", linewidth=0.5 if edge % 0.5 else 1.2)
    for row in (0, 1):
        for col in (0, 1):
            plot.plot(col, row, "o", color=COLOURS[0], markersize=10, zorder=3)
    plot.plot(place[1], place[0], "o", color="black", markersize=6)
    plot.set(xlim=(-0.08, 1.08), ylim=(1.08, -0.08), aspect="equal")
    plot.set_title(
        "levels 0, 1, 2 of one place:\nrow 0.101…, column 0.010… in base two",
        fontsize=10,
    )
    plot.axis("off")


def diin_idea():
    """Nodes that exchange heat, and what one layer of DIIN is made of."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.4, 4.1), width_ratios=(1, 1.75), layout="constrained"
    )
    draw_nodes(left)
    heat, tokens, own = COLOURS[:3]
    size = 1.25, 0.62
    box(right, (0, 0), (0.7, 0.62), "$Z$", "0.6")
    box(right, (2.0, 1.2), size, "diffusion\n$P = S\\,V$", heat)
    box(right, (2.0, -1.2), size, "attention\n$A\\,V_D$", tokens)
    box(right, (4.0, 0), size, "add,\nlinear layer", own)
    box(right, (5.8, 0), size, "add $\\alpha Z$,\nMLP (ours)", own)
    box(right, (7.3, 0), (0.7, 0.62), "$Z'$", "0.6")
    box(right, (2.0, -2.55), size, "tokens $D$", tokens)
    box(right, (5.8, -2.55), size, "refined\ntokens $D'$", tokens)
    arrow(right, (0.38, 0.12), (1.36, 1.1))
    arrow(right, (0.38, -0.12), (1.36, -1.1))
    arrow(right, (2.66, 1.1), (3.5, 0.36))
    arrow(right, (2.66, -1.1), (3.5, -0.36))
    arrow(right, (4.66, 0), (5.14, 0))
    arrow(right, (6.46, 0), (6.92, 0))
    arrow(right, (2.0, -2.2), (2.0, -1.56))
    arrow(right, (2.66, -2.55), (5.14, -2.55))
    arrow(right, (5.8, -0.36), (5.8, -2.2))
    arrow(right, (2.66, -1.4), (5.14, -2.4))
    right.annotate("all queries", (2.0, 1.62), ha="center", fontsize=10, color=heat)
    right.set(xlim=(-0.45, 7.75), ylim=(-3, 2), aspect="equal")
    right.axis("off")
    return figure


def draw_nodes(plot) -> None:
    """Six nodes; the thicker an arrow, the more heat flows to the black one."""
    places = [(0, 0), (1, 0.15), (2, 0), (0.2, 1), (1.9, 1.1), (1.1, 2)]
    warmth = [0.9, 0.2, 0.7, 0.5, 0.1, 0.95]
    centre = (1.05, 1.05)
    for (x, y), value in zip(places, warmth, strict=True):
        width = 0.8 + 3 * value
        plot.annotate(
            "",
            centre,
            (x, y),
            arrowprops={
                "arrowstyle": "-|>",
                "linewidth": width,
                "color": "0.55",
                "shrinkA": 12,
                "shrinkB": 13,
            },
        )
        colour = COLOURS[1] if value > 0.5 else COLOURS[0]
        plot.plot(x, y, "o", color=colour, markersize=15, alpha=0.35 + 0.6 * value)
    plot.plot(*centre, "o", color="black", markersize=16)
    plot.annotate("$i$", centre, ha="center", va="center", color="white", fontsize=12)
    plot.annotate("$j$", (2.1, 0), fontsize=12, va="center")
    plot.annotate("$S_{ij}$", (1.62, 0.42), fontsize=12)
    plot.set(xlim=(-0.3, 2.5), ylim=(2.35, -0.35), aspect="equal")
    plot.set_title("queries as nodes: rates $S_{ij}$ say\nwho hears whom", fontsize=10)
    plot.axis("off")


def idm_idea():
    """A chain from noise to a picture, and one depth of the U-Net that walks it."""
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(10.6, 4.3), width_ratios=(1, 1.6), layout="constrained"
    )
    lr, own, up = COLOURS[:3]
    size = (1.15, 0.62)
    for row, words in enumerate(
        ("noise $y_T$", "noisy\npicture $y_t$", "picture $y_0$")
    ):
        box(left, (0, -1.5 * row), (1.1, 0.66), words, own)
    for row in (0, 1):
        arrow(left, (0, -1.5 * row - 0.38), (0, -1.5 * row - 1.12))
        arrow(left, (1.7, -1.5), (0.1, -0.75 - 1.5 * row))
    box(left, (2.4, -1.5), (1.35, 0.66), "U-Net,\nonce a step", up)
    box(left, (2.4, -3), (1.35, 0.66), "low-resolution\npicture $x$", lr)
    arrow(left, (2.4, -2.62), (2.4, -1.88))
    left.set(xlim=(-0.7, 3.3), ylim=(-3.5, 0.75), aspect="equal")
    left.axis("off")
    box(right, (0, 1.5), size, "$f_{i}$", lr)
    box(right, (0, 0), size, "$u_{i}$", own)
    box(right, (0, -1.5), size, "scale $s$", "0.6")
    box(right, (2.1, 0), size, "$a_i f_i + b_i u_i$", own)
    box(right, (4.3, 0), (1.25, 0.62), "implicit MLP,\nany size", up)
    box(right, (6.4, 0), size, "$u_{i-1}$", own)
    arrow(right, (0.62, 1.3), (1.65, 0.37))
    arrow(right, (0.62, 0), (1.48, 0))
    arrow(right, (0.62, -1.3), (1.65, -0.37))
    arrow(right, (2.72, 0), (3.62, 0))
    arrow(right, (4.97, 0), (5.78, 0))
    right.annotate("$a_i, b_i$", (1.28, -1.05), fontsize=11)
    right.annotate("LR features,\nof the same size", (0, 1.97), ha="center", fontsize=9)
    right.annotate("decoder of the U-Net", (0, 0.42), ha="center", fontsize=9)
    right.annotate(
        "offsets to the\nnearest feature", (4.3, -1.5), ha="center", fontsize=9
    )
    arrow(right, (4.3, -1.05), (4.3, -0.37))
    right.annotate("size of the\nskip connection", (6.4, 0.47), ha="center", fontsize=9)
    right.set(xlim=(-0.75, 7.2), ylim=(-2, 2.6), aspect="equal")
    right.axis("off")
    return figure


def seeds_idea():
    """Two pairs of methods with three seeds each: one pair is apart, one is not."""
    figure, plot = plt.subplots(figsize=(6.4, 3.2))
    pairs = {
        "apart: every seed of A\nis above every seed of B": [
            (5.0, 5.4, 6.2),
            (2, 3, 4),
        ],
        "not apart: the ranges\noverlap": [(3.1, 4.6, 6), (2, 3.6, 4.4)],
    }
    for k, (title, methods) in enumerate(pairs.items()):
        for side, (name, scores) in enumerate(zip("AB", methods, strict=True)):
            x, colour = 3 * k + side, COLOURS[side]
            low, high = min(scores), max(scores)
            plot.add_patch(
                Rectangle((x - 0.3, low), 0.6, high - low, color=colour, alpha=0.25)
            )
            plot.plot([x] * 3, scores, "o", color=colour, markersize=9)
            plot.annotate(name, (x, 1.2), ha="center", fontsize=13)
        plot.annotate(title, (3 * k + 0.5, 6.7), ha="center", fontsize=11)
    plot.set(xlim=(-0.8, 4.8), ylim=(0.9, 7.8), ylabel="score, one dot a seed")
    plot.spines[["top", "right", "bottom"]].set_visible(False)
    plot.set(xticks=[], yticks=[])
    return figure
