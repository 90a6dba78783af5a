"""How far every run ends from its target, as a figure: a row per algorithm, a point per run, bounds as marks."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from plaudit.reporting.drawing import FIRST, GRID, INK, MUTED, SECOND

if TYPE_CHECKING:
    from plaudit.lab.table import Row

WIDTH, ROW_HEIGHT, MARGIN = 7.6, 0.26, 0.9  # inches
LEAST = 1e-5  # smaller misses are drawn here


def miss_figure(rows: "Sequence[Row]") -> Any:
    """Return a matplotlib figure of the misses of all runs (the regrets if a row has no target)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, MARGIN + ROW_HEIGHT * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for height, row in enumerate(reversed(rows)):
        values = [max(value, LEAST) for value in row.misses or [run.regret for run in row.runs]]
        color = FIRST if row.misses else MUTED
        axes.scatter(values, [height] * len(values), s=14, color=color, alpha=0.45, linewidths=0)
        axes.scatter(sum(values) / len(values), height, s=38, marker="|", color=INK, linewidths=1.8)
        if row.entry.mean is not None and row.entry.worst is not None:
            axes.scatter(
                [row.entry.mean, row.entry.worst], [height] * 2, s=70, marker="|", color=SECOND, linewidths=1.2
            )
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [row.entry.name for row in reversed(rows)])
    axes.grid(axis="x", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    axes.set_xlabel(
        "remaining distance to the target, relative to the reference; black: mean, orange: bounds, grey: regret only",
        color=MUTED,
        fontsize=9,
    )
    return figure
