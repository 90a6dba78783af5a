"""The section about the reward model: its accuracy, compared with trivial baselines, and its calibration."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plaudit.reporting.curves import Figure, curve_grid
from plaudit.reporting.drawing import svg
from plaudit.reporting.figures import reliability_figure, reliability_label
from plaudit.reporting.logs import is_number
from plaudit.reporting.numbers import fixed, percent
from plaudit.reporting.reading import Run, StageFiles
from plaudit.reporting.tables import judged


def reward_model(run: Run) -> Mapping[str, Any] | None:
    """How well the reward model predicts held-out comparisons."""
    stage = run.stage("reward")
    view = {
        "judges": judged(stage.result),
        "measured": _last_measurement(stage),
        "reliability": _reliability(stage.result),
        "curves": curve_grid(run, stage),
    }
    return {**view, **_counted(stage.result)} if any(view.values()) else None


def _counted(result: Mapping[str, Any]) -> dict[str, float | None]:
    """Number of held-out pairs and of their prompts, and of what set baselines and scale; None where not known."""
    pairs, prompts = result.get("held_out_accuracy/pairs"), result.get("held_out_accuracy/prompts")
    known = is_number(pairs) and is_number(prompts)
    return {
        "pairs": pairs if known else None,
        "prompts": prompts if known else None,
        "baseline_rows": result.get("baseline_rows"),
        "scale_responses": result.get("scale_responses"),
    }


def _last_measurement(stage: StageFiles) -> list[tuple[str, str]]:
    measured: Sequence[tuple[str, str, Callable[[float], str]]] = (
        ("held-out accuracy", "held_out/accuracy", lambda value: percent(value, 1)),
        ("held-out calibration error", "held_out/calibration_error", lambda value: fixed(value, 3)),
        ("held-out margin", "held_out/margin", lambda value: fixed(value, 2)),
        ("held-out loss", "held_out/loss", lambda value: fixed(value, 3)),
        ("held-out pairs", "held_out/pairs", lambda value: fixed(value, 0)),
    )
    above = ("held_out/accuracy", "held_out/pairs") if judged(stage.result) else ()
    return [
        (name, write(series.values[-1]))
        for name, metric, write in measured
        if metric not in above and len(series := stage.series(metric))
    ]


def _reliability(result: Mapping[str, Any]) -> Figure | None:
    bins = result.get("calibration")
    if not bins:
        return None
    drawing = svg(reliability_figure(bins), "reliability", reliability_label(bins))
    return Figure("Reliability", "fraction right, by predicted probability", (), drawing)
