"""Axes, ticks, labels and SVG text that all figures share.

Text stays text and colors become CSS variables, so that a figure uses the page's font and its light or dark colors.
The same data give the same bytes.
"""

import io
import re
from collections.abc import Sequence
from html import escape
from typing import Any

from markupsafe import Markup

from plaudit.reporting.numbers import MINUS, significant
from plaudit.reporting.reward_kl import Point

COLOURS = {
    "#1b1f23": "ink",
    "#6b7078": "muted",
    "#e3e1dc": "grid",
    "#0b7a75": "first",
    "#c4561c": "second",
    "#5b5fc7": "third",
}
INK, MUTED, GRID, FIRST, SECOND, THIRD = COLOURS
SERIES_COLOURS = (FIRST, SECOND, THIRD)
POINTS_PER_INCH = 72
ROUND_STEPS = (1, 2, 2.5, 5, 10)


def svg(figure: Any, identifier: str, label: str) -> Markup:
    """Return a figure as an inline SVG element.

    Args:
        identifier: prefix that makes the element's ids unique in the page.
        label: what the figure shows, for screen readers.
    """
    import matplotlib

    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": identifier, "svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = text.replace("xlink:href", "href")
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{identifier}-", text)
    for color, name in COLOURS.items():
        text = text.replace(color, f"var(--{name})")
    view_box = re.search(r'viewBox="[^"]*"', text)
    opening = f'<svg {view_box.group() if view_box else ""} role="img" aria-label="{escape(label)}">'
    return Markup(re.sub(r"<svg[^>]*>", lambda _: opening, text, count=1).strip())


def empty_figure(size: tuple[int, int], left: int, right: int, bottom: int, top: int) -> tuple[Any, Any]:
    """Return a figure without content and its axes, with margins in points."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = size
    figure = Figure(figsize=(width / POINTS_PER_INCH, height / POINTS_PER_INCH))
    FigureCanvasSVG(figure)
    box = (left / width, bottom / height, (width - left - right) / width, (height - bottom - top) / height)
    axes = figure.add_axes(box)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "left", "right"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(MUTED)
    return figure, axes


def set_ticks(axes: Any, x_label: str) -> None:
    """Put about five round numbers on each axis, and a label below the horizontal one."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS, integer=axes.get_xlim()[1] > 5))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=ROUND_STEPS))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.5g}".replace("-", MINUS)))
    axes.tick_params(colors=MUTED, labelsize=10.5, length=0, pad=5)
    axes.set_xlabel(x_label, color=MUTED, fontsize=10.5, loc="right", labelpad=1)


def write_point(axes: Any, point: Point, color: str, offset: tuple[int, int], weight: str = "normal") -> None:
    """Write a point's label at an offset in points; to the left of it if the offset is negative."""
    style = {"color": color, "fontsize": 10.5, "fontweight": weight, "ha": "left" if offset[0] > 0 else "right"}
    # Names are shown literally: a dollar sign does not start a formula.
    axes.annotate(point.label, (point.x, point.y), offset, textcoords="offset points", parse_math=False, **style)


def write_ends(axes: Any, ends: Sequence[tuple[int, float, str]]) -> None:
    """Write the last values to the right of their lines and far enough apart to be read."""
    low, high = axes.get_ylim()
    gap, previous = 0.1 * (high - low), float("-inf")
    for step, value, color in sorted(ends, key=lambda end: end[1]):
        height = max(value, previous + gap)
        style = {"color": color, "fontsize": 11, "fontweight": "bold", "va": "center", "annotation_clip": False}
        axes.annotate(significant(value), (step, height), (6, 0), textcoords="offset points", **style)
        previous = height


def set_limits(axes: Any, shown: Sequence[float], lowest: float | None) -> None:
    """Show all of these values with a margin, but nothing below ``lowest``."""
    low, high = min(shown), max(shown)
    if lowest is not None and high > lowest:
        low = max(low, lowest)
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    axes.set_ylim(low - margin, high + margin)
