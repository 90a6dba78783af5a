"""The figures: small multiples of curves, the reward-against-KL picture, the reliability diagram."""

import math
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from plaudit.evaluation.overoptimization import FittedCurve
from plaudit.registries.stages import STAGES
from plaudit.reporting.drawing import (
    FIRST,
    INK,
    MUTED,
    SECOND,
    SERIES_COLOURS,
    empty_figure,
    set_limits,
    set_ticks,
    write_ends,
    write_point,
)
from plaudit.reporting.logs import Series
from plaudit.reporting.numbers import significant
from plaudit.reporting.panels import Level, Panel
from plaudit.reporting.reading import StageFiles
from plaudit.reporting.reward_kl import Point, RewardKl

T = TypeVar("T")

PANEL_SIZE = (340, 190)
PICTURE_SIZE = (440, 300)
MOST_POINTS = 400
FEWEST_TO_SMOOTH = 20
LARGEST_DOT = 90
"""Area of a reliability diagram's largest dot, in square points."""


def moving_average(values: Sequence[float], window: int) -> list[float]:
    """Centred mean over ``window`` values (an odd number), over fewer at both ends."""
    half = window // 2
    return [fmean(values[max(0, index - half) : index + half + 1]) for index in range(len(values))]


def smoothing_window(count: int) -> int:
    """The window of the thick line: a tenth of the points, odd; 1 if there are too few to smooth."""
    return 2 * (count // 20) + 1 if count >= FEWEST_TO_SMOOTH else 1


def averaged(series: Series) -> Series:
    """At most ``MOST_POINTS`` points: neighbors that a figure of this width could not separate are averaged."""
    steps = tuple(part[len(part) // 2] for part in _groups(series.steps))
    return Series(steps, tuple(map(fmean, _groups(series.values))))


def outline(series: Series) -> Series:
    """About ``MOST_POINTS`` points: of neighbors that a figure could not separate, the least and the greatest."""
    if len(series) <= MOST_POINTS:
        return series
    parts = _groups(range(len(series)), MOST_POINTS // 2)
    extremes = {find(part, key=series.values.__getitem__) for part in parts for find in (min, max)}
    kept = sorted(extremes | {0, len(series) - 1})
    return Series([series.steps[index] for index in kept], [series.values[index] for index in kept])


def _groups(values: Sequence[T], most: int = MOST_POINTS) -> list[Sequence[T]]:
    """Neighbors in at most ``most`` groups of equal size, the last perhaps smaller."""
    size = -(-len(values) // most)
    return [values[start : start + size] for start in range(0, len(values), size)]


def curve_figure(stage: StageFiles, panel: Panel) -> Any:
    """A panel as a matplotlib figure: raw values thin, their moving average thick, its last value written out."""
    figure, axes = empty_figure(PANEL_SIZE, left=46, right=50, bottom=30, top=10)
    ends, shown = [], []
    for line, color in zip(panel.lines, SERIES_COLOURS, strict=False):
        series = stage.series(line.metric)
        drawn = outline(series)
        smooth = drawn if panel.exact else _smoothed(series)
        _draw_series(axes, drawn, smooth, color)
        ends.append((series.steps[-1], smooth.values[-1], color))
        shown += [*_middle(drawn.values), *smooth.values]
    if panel.spread:
        shown += _draw_band(axes, averaged(stage.series(panel.lines[0].metric)), averaged(stage.series(panel.spread)))
    if panel.level:
        shown.append(panel.level.value)
        _draw_level(axes, panel.level, [stage.series(line.metric).values for line in panel.lines])
    set_limits(axes, shown, panel.lowest)
    write_ends(axes, ends)
    set_ticks(axes, x_label=STAGES[stage.name].step_name)
    return figure


def reward_kl_figure(picture: RewardKl) -> Any:
    """The reward-against-KL picture as a matplotlib figure."""
    figure, axes = empty_figure(PICTURE_SIZE, left=52, right=30, bottom=44, top=16)
    if picture.trajectory:
        points = [[fmean(part) for part in _groups(values)] for values in zip(*picture.trajectory, strict=True)]
        window = smoothing_window(len(points[0]))
        axes.scatter(*points, s=5, color=FIRST, alpha=0.25, linewidths=0, gid="iterations")
        axes.plot(*(moving_average(values, window) for values in points), color=FIRST, linewidth=2)
    if picture.best_of_n:
        _draw_best_of_n(axes, picture.best_of_n)
    for fit, color in ((picture.trajectory_fit, FIRST), (picture.best_of_n_fit, SECOND)):
        if fit:
            _draw_fit(axes, fit, color)
    for point in picture.models:
        axes.errorbar(point.x, point.y, yerr=1.96 * point.error, color=INK, marker="o", markersize=6, capsize=0)
        write_point(axes, point, INK, offset=(8, -13), weight="bold")
    axes.margins(0.1, 0.12)
    set_ticks(axes, x_label="√KL to the reference (√nats per response)")
    return figure


def reliability_figure(bins: Sequence[Mapping[str, float]]) -> Any:
    """A reliability diagram (DeGroot & Fienberg 1983) as a matplotlib figure.

    Each bin has ``predicted`` and ``right`` with ``low`` and ``high``, and ``pairs``, to which a dot's area is
    proportional.
    """
    figure, axes = empty_figure(PICTURE_SIZE, left=46, right=30, bottom=44, top=16)
    predicted, right = [row["predicted"] for row in bins], [row["right"] for row in bins]
    below, above = [row["right"] - row["low"] for row in bins], [row["high"] - row["right"] for row in bins]
    most = max(row["pairs"] for row in bins)
    axes.plot((0.5, 1), (0.5, 1), color=MUTED, linewidth=1, dashes=(3, 3))
    axes.errorbar(predicted, right, yerr=(below, above), color=FIRST, linestyle="none", linewidth=1.2)
    sizes = [LARGEST_DOT * row["pairs"] / most for row in bins]
    axes.scatter(predicted, right, s=sizes, color=FIRST, linewidths=0, zorder=3, gid="bins")
    axes.set_xlim(0.485, 1.015)
    axes.set_ylim(min(0.5, *(row["low"] for row in bins)) - 0.02, 1.02)
    set_ticks(axes, x_label="predicted probability")
    axes.set_xticks([0.5, 0.6, 0.7, 0.8, 0.9, 1])
    return figure


def reliability_label(bins: Sequence[Mapping[str, float]]) -> str:
    """The reliability diagram in words."""
    dots = [f"{significant(row['right'])} right where {significant(row['predicted'])} was predicted" for row in bins]
    return f"Fraction of pairs ordered correctly, by predicted probability: {'; '.join(dots)}."


def curve_label(stage: StageFiles, panel: Panel) -> str:
    """A panel in words: where each of its lines starts and ends."""
    parts = []
    for line in panel.lines:
        series = stage.series(line.metric)
        change = f"from {significant(series.values[0])} to {significant(series.values[-1])}"
        parts.append(f"{line.label} {change}".strip())
    return f"{panel.title} by {STAGES[stage.name].step_name}: {'; '.join(parts)}."


def _smoothed(series: Series) -> Series:
    averages = averaged(series)
    return Series(averages.steps, moving_average(averages.values, smoothing_window(len(averages))))


def _draw_series(axes: Any, raw: Series, smooth: Series, color: str) -> None:
    many = len(smooth) >= FEWEST_TO_SMOOTH
    if many and smooth is not raw:
        axes.plot(raw.steps, raw.values, color=color, linewidth=0.8, alpha=0.35)
    style = {"color": color, "linewidth": 2, "solid_capstyle": "round"}
    axes.plot(smooth.steps, smooth.values, marker="" if many else "o", markersize=3.5, **style)


def _draw_band(axes: Any, mean: Series, spread: Series) -> list[float]:
    deviations = dict(zip(spread.steps, spread.values, strict=True))
    pairs = zip(mean.steps, mean.values, strict=True)
    points = [(step, value, deviations[step]) for step, value in pairs if step in deviations]
    steps = [step for step, _, _ in points]
    window = smoothing_window(len(points))
    low = moving_average([value - deviation for _, value, deviation in points], window)
    high = moving_average([value + deviation for _, value, deviation in points], window)
    axes.fill_between(steps, low, high, color=FIRST, alpha=0.13, linewidth=0)
    return [*low, *high]


def _draw_level(axes: Any, level: Level, curves: Sequence[Sequence[float]]) -> None:
    """A dashed line, with its name above it at the end where the curves leave more room."""
    axes.axhline(level.value, color=MUTED, linewidth=1, dashes=(3, 3))

    def room(end: int) -> float:
        return min((values[end] - level.value for values in curves if values[end] >= level.value), default=math.inf)

    at_start = room(0) > room(-1)
    side = {"ha": "left", "xytext": (2, 3)} if at_start else {"ha": "right", "xytext": (-2, 3)}
    place = {"xycoords": axes.get_yaxis_transform(), "textcoords": "offset points"}
    axes.annotate(level.label, (0 if at_start else 1, level.value), color=MUTED, fontsize=10, **place, **side)


def _draw_best_of_n(axes: Any, points: Sequence[Point]) -> None:
    x, y = [point.x for point in points], [point.y for point in points]
    axes.plot(x, y, color=SECOND, linewidth=1.2, dashes=(3, 2), marker="o", markersize=4, gid="best-of-n")
    # The best of one is the model itself, which has its own label.
    for point in points:
        if point.x > 0:
            write_point(axes, point, SECOND, offset=(-5, 6))


def _draw_fit(axes: Any, fit: FittedCurve, color: str) -> None:
    """The fitted curve, thin, with a triangle at its peak if it has one within the data."""
    distances = [fit.max_distance * step / 100 for step in range(101)]
    axes.plot(
        distances,
        [fit(distance) for distance in distances],
        color=color,
        linewidth=0.9,
        alpha=0.8,
        gid=f"fit-{fit.form}",
    )
    if fit.peak is not None:
        axes.plot(
            [fit.peak],
            [fit(fit.peak)],
            color=color,
            marker="v",
            markersize=7,
            linestyle="none",
            gid=f"peak-{fit.form}",
        )


def _middle(values: Sequence[float]) -> list[float]:
    """Values without the most extreme percent on either side, so that one spike does not flatten a curve."""
    cut = len(values) // 100
    ordered = sorted(values)
    return ordered[cut : len(ordered) - cut]
