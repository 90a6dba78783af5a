"""Figures: the points they draw, and SVG that is safe to put into a page."""

import math
from pathlib import Path

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plaudit.reporting.curves import reward_against_kl
from plaudit.reporting.drawing import svg
from plaudit.reporting.figures import (
    averaged,
    curve_figure,
    moving_average,
    outline,
    reliability_figure,
    reliability_label,
    reward_kl_figure,
    smoothing_window,
)
from plaudit.reporting.logs import Series, metric_series
from plaudit.reporting.panels import Line, Panel, panels
from plaudit.reporting.reading import StageFiles, read_run
from plaudit.reporting.reward_kl import RewardKl, reward_kl
from report_runs import reward_judgement, rl_metrics, write_lines, write_run


def pictures(folder: Path) -> dict[str, RewardKl]:
    return {picture.source: picture for picture in reward_kl(read_run(folder))}


def test_models_and_best_of_n_are_at_the_root_of_their_kl(tmp_path: Path) -> None:
    picture = pictures(write_run(tmp_path / "run"))["gold"]
    assert [(point.label, point.x, point.y) for point in picture.models] == [
        ("pretrain", math.sqrt(9.12), 0.187),
        ("sft", 0.0, 0.523),
        ("ppo", 3.5, 0.914),
    ]
    four = picture.best_of_n[1]
    assert (four.label, four.y) == ("N = 4", 0.68)
    assert four.x**2 == pytest.approx(math.log(4) - 3 / 4)
    assert picture.trajectory == ()


def test_the_trajectory_is_at_the_root_of_its_kl(tmp_path: Path) -> None:
    rows = [
        {"step": 1, "kl": -0.3, "reward/gold": 0.1},
        {"step": 2, "kl": 4.0, "reward/gold": 0.2},
        {"step": 3, "kl": 9.0},
        {"step": 4, "kl": 9.0, "reward/gold": 0.6},
    ]
    write_lines(tmp_path / "rl" / "metrics.jsonl", rows)
    assert pictures(tmp_path)["gold"].trajectory == ((0.0, 0.1), (2.0, 0.2), (3.0, 0.6))


def test_the_drawn_dots_are_the_points(tmp_path: Path) -> None:
    picture = pictures(write_run(tmp_path / "run"))["reward_model"]
    axes = reward_kl_figure(picture).axes[0]
    iterations = next(drawn for drawn in axes.collections if drawn.get_gid() == "iterations")
    numpy.testing.assert_allclose(iterations.get_offsets(), picture.trajectory)
    best_of_n = next(line for line in axes.lines if line.get_gid() == "best-of-n")
    numpy.testing.assert_allclose(best_of_n.get_xdata(), [point.x for point in picture.best_of_n])


def test_an_over_optimized_score_has_its_curve_and_its_peak(tmp_path: Path) -> None:
    distances = [0.25 * step for step in range(25)]
    rows = [
        {"step": step, "kl": d * d, "reward/gold": 0.5 + (d * (1 - 0.5 * math.log(d)) if d else 0.0)}
        for step, d in enumerate(distances)
    ]
    write_lines(tmp_path / "rl" / "metrics.jsonl", rows)
    axes = reward_kl_figure(pictures(tmp_path)["gold"]).axes[0]
    (fit,) = (line for line in axes.lines if line.get_gid() == "fit-rl")
    (peak,) = (line for line in axes.lines if line.get_gid() == "peak-rl")
    assert fit.get_xdata()[-1] == 6.0
    assert (peak.get_xdata()[0], peak.get_ydata()[0]) == pytest.approx((math.e, 0.5 + math.e / 2))
    view = reward_against_kl(read_run(tmp_path))
    assert view is not None
    assert "With reinforcement learning, gold peaks at √KL 2.72 (triangle)." in view["how_to_read"]


def test_the_reliability_diagram_draws_the_bins_with_areas_like_their_pairs() -> None:
    bins = reward_judgement()["calibration"]
    axes = reliability_figure(bins).axes[0]
    dots = next(drawn for drawn in axes.collections if drawn.get_gid() == "bins")
    numpy.testing.assert_allclose(dots.get_offsets(), [(row["predicted"], row["right"]) for row in bins])
    numpy.testing.assert_allclose(dots.get_sizes() / dots.get_sizes()[-1], [row["pairs"] / 200 for row in bins])
    errors = next(drawn for drawn in axes.collections if drawn.get_gid() != "bins")
    ends = [segment[:, 1] for segment in errors.get_segments()]
    numpy.testing.assert_allclose(ends, [(row["low"], row["high"]) for row in bins])
    assert "0.560 right where 0.525 was predicted" in reliability_label(bins)
    assert axes.get_ylim()[0] < min(row["low"] for row in bins)


@pytest.mark.parametrize(
    "curves, side",
    [([(0.4, 0.9), (0.45, 0.52)], "left"), ([(0.51, 0.9), (0.52, 0.8)], "right"), ([(0.6, 0.4), (0.6, 0.45)], "right")],
)
def test_a_level_is_labeled_where_there_is_space_above_it(curves: list[tuple[float, float]], side: str) -> None:
    training, held_out = curves
    rows = [{"step": step, "accuracy": training[step], "held_out/accuracy": held_out[step]} for step in (0, 1)]
    stage = StageFiles("reward", metric_series(rows))
    axes = curve_figure(stage, panels(stage, {})[0]).axes[0]
    assert next(text for text in axes.texts if text.get_text() == "chance").get_ha() == side


def test_no_picture_without_a_kl(tmp_path: Path) -> None:
    write_lines(tmp_path / "rl" / "metrics.jsonl", [{"step": 1, "reward/gold": 0.1}])
    assert reward_kl(read_run(tmp_path)) == []


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=60), st.integers(0, 8))
def test_moving_average_is_the_mean_of_the_window(values: list[float], half: int) -> None:
    expected = [numpy.mean(values[max(0, i - half) : i + half + 1]) for i in range(len(values))]
    numpy.testing.assert_allclose(moving_average(values, 2 * half + 1), expected, atol=1e-9)


@pytest.mark.parametrize("count, window", [(1, 1), (19, 1), (20, 3), (100, 11), (1000, 101)])
def test_smoothing_window(count: int, window: int) -> None:
    assert smoothing_window(count) == window


@given(st.integers(1, 5000))
def test_averaging_keeps_the_mean_and_bounds_the_points(count: int) -> None:
    values = tuple(float(index % 7) for index in range(count))
    result = averaged(Series(tuple(range(count)), values))
    assert len(result) <= 400
    size = -(-count // 400)
    weights = [min(size, count - start) for start in range(0, count, size)]
    assert numpy.average(result.values, weights=weights) == pytest.approx(numpy.mean(values))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=5000))
def test_an_outline_keeps_the_extremes_and_the_ends_and_bounds_the_points(values: list[float]) -> None:
    result = outline(Series(range(len(values)), values))
    assert len(result) <= 402
    assert (min(result.values), max(result.values)) == (min(values), max(values))
    assert (result.values[0], result.values[-1]) == (values[0], values[-1])
    assert list(result.steps) == sorted(set(result.steps))
    assert all(values[step] == value for step, value in zip(result.steps, result.values, strict=True))
    if len(values) <= 400:
        assert list(result.values) == values


@pytest.mark.parametrize("exact", [False, True])
def test_a_long_curve_shows_its_one_dip(exact: bool) -> None:
    rows = ({"step": step, "kl": 0.0 if step == 13_777 else 5.0} for step in range(20_000))
    figure = curve_figure(StageFiles("rl", metric_series(rows)), Panel("KL", "", (Line("kl"),), exact=exact))
    line = figure.axes[0].lines[0]
    assert len(line.get_xdata()) <= 402
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True))[13_777] == 0.0


def test_a_panel_draws_the_raw_values_and_their_average() -> None:
    rows = list(rl_metrics(100))
    stage = StageFiles("rl", metric_series(rows))
    raw, smooth = curve_figure(stage, Panel("KL", "nats", (Line("kl"),))).axes[0].lines
    kl = [row["kl"] for row in rows]
    assert list(raw.get_ydata()) == kl
    numpy.testing.assert_allclose(smooth.get_ydata(), moving_average(kl, 11))


def test_exact_values_are_not_smoothed() -> None:
    rows = list(rl_metrics(100))
    panel = next(panel for panel in panels(StageFiles("rl", metric_series(rows)), {}) if panel.title == "Learning rate")
    (line,) = curve_figure(StageFiles("rl", metric_series(rows)), panel).axes[0].lines
    assert list(line.get_ydata()) == [row["learning_rate"] for row in rows]


def test_one_spike_does_not_flatten_a_curve() -> None:
    rows = [{"step": step, "gradient_norm": 1e6 if step == 137 else 1.0 + step % 2} for step in range(300)]
    panel = Panel("Gradient norm", "", (Line("gradient_norm"),))
    figure = curve_figure(StageFiles("rl", metric_series(rows)), panel)
    smooth = figure.axes[0].lines[1].get_ydata()
    low, high = figure.axes[0].get_ylim()
    assert low < 1.0
    assert max(smooth) < high < 1e6


def test_panels_without_data_are_left_out() -> None:
    stage = StageFiles("sft", metric_series([{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]))
    assert [(panel.title, [line.metric for line in panel.lines]) for panel in panels(stage, {})] == [("Loss", ["loss"])]


def test_the_kl_target_is_drawn() -> None:
    stage = StageFiles("rl", metric_series(rl_metrics(30)))
    configuration = {"rl": {"kl": {"target": 6.0}}}
    (level,) = [panel.level for panel in panels(stage, configuration) if panel.title == "KL to the reference"]
    assert level is not None
    assert level.value == 6.0


def test_svg_is_self_contained_and_its_ids_are_unique_to_it() -> None:
    stage = StageFiles("rl", metric_series(rl_metrics(30)))
    panel = Panel("KL", "nats", (Line("kl"),))
    one, other = (svg(curve_figure(stage, panel), name, 'KL & "more"') for name in ("one", "other"))
    assert one.startswith("<svg viewBox=")
    assert one.endswith("</svg>")
    assert "http" not in one
    assert 'role="img" aria-label="KL &amp; &quot;more&quot;"' in one
    assert 'id="one-' in one
    assert 'id="other-' not in one
    assert "var(--first)" in one
    assert other == svg(curve_figure(stage, panel), "other", 'KL & "more"')


def test_constant_and_single_values_can_be_drawn() -> None:
    for values in ([0.0], [3.0], [2.0] * 30):
        stage = StageFiles("rl", metric_series({"step": step, "kl": value} for step, value in enumerate(values)))
        low, high = curve_figure(stage, Panel("KL", "", (Line("kl"),))).axes[0].get_ylim()
        assert low < values[0] < high
