"""The section about the reward model: how often it is right, beside trivial models, and how well it knows that."""

from collections.abc import Mapping
from typing import Any

from plaudit.reporting.curves import curve_grid
from plaudit.reporting.figures import reliability_figure, reliability_label, svg
from plaudit.reporting.markup import Html, definitions, join, scrolling, tag
from plaudit.reporting.numbers import fixed, interval, percent
from plaudit.reporting.reading import Run, Stage, is_number
from plaudit.reporting.tables import judged

HOW_TO_READ = (
    "Of each held-out pair the response with the higher score is predicted to be better. Dots: the probability that "
    "the scores give it, against how often it was; vertical lines: 95 % intervals; the larger a dot, the more pairs. "
    "Where dots are below the dashed line, the model is surer than it should be."
)


def reward_model(run: Run) -> Html | None:
    """How well the reward model predicts held-out comparisons."""
    stage = run.stage("reward")
    parts = [_accuracies(stage.result), _last_measurement(stage), _reliability(stage.result), curve_grid(run, stage)]
    shown = [part for part in parts if part is not None]
    return join(shown) if shown else None


def _accuracies(result: Mapping[str, Any]) -> Html | None:
    rows = judged(result)
    if not rows:
        return None
    heads = [tag("th", name, scope="col") for name in ("Preferred by", "Accuracy", "95 % interval")]
    body = [
        tag(
            "tr",
            tag("th", name, scope="row"),
            tag("td", percent(accuracy, 1)),
            tag("td", interval(low, high, decimals=1)),
            tag("td", _range(accuracy, low, high), aria_hidden="true"),
        )
        for name, accuracy, low, high in rows
    ]
    table = tag("table", tag("thead", tag("tr", *heads, tag("td"))), tag("tbody", *body), class_="accuracies")
    words = tag("p", _what_was_measured(result), class_="caption")
    return join([scrolling(table, "Accuracy on held-out pairs"), words])


def _what_was_measured(result: Mapping[str, Any]) -> str:
    pairs, prompts = result.get("held_out_accuracy/pairs"), result.get("held_out_accuracy/prompts")
    counted = f" ({pairs} of {prompts} prompts)" if is_number(pairs) and is_number(prompts) else ""
    return (
        f"Share of held-out pairs{counted} whose better response has the higher score; the line in the middle is one "
        "half. The two baselines see only the length of a response, or the words in it, and learned from the same rows."
    )


def _range(accuracy: float, low: float, high: float) -> Html:
    """The interval as a bar on a line from 0 to 1, the accuracy as a dot on it."""
    bar = tag("span", class_="bar", style=f"left:{100 * low:.1f}%;width:{100 * (high - low):.1f}%")
    return tag("div", bar, tag("span", class_="dot", style=f"left:{100 * accuracy:.1f}%"), class_="range")


def _last_measurement(stage: Stage) -> Html | None:
    measured = (
        ("held-out accuracy", "held_out/accuracy", lambda value: percent(value, 1)),
        ("held-out calibration error", "held_out/calibration_error", lambda value: fixed(value, 3)),
        ("held-out margin", "held_out/margin", lambda value: fixed(value, 2)),
        ("held-out loss", "held_out/loss", lambda value: fixed(value, 3)),
        ("held-out pairs", "held_out/pairs", lambda value: fixed(value, 0)),
    )
    above = ("held_out/accuracy", "held_out/pairs") if judged(stage.result) else ()
    last = [
        (name, write(series.values[-1]))
        for name, metric, write in measured
        if metric not in above and len(series := stage.series(metric))
    ]
    return definitions(last, "tiles") if last else None


def _reliability(result: Mapping[str, Any]) -> Html | None:
    bins = result.get("calibration")
    if not bins:
        return None
    drawing = svg(reliability_figure(bins), "reliability", reliability_label(bins))
    caption = tag("figcaption", tag("b", "Reliability"), tag("small", "share right, by predicted probability"))
    words = tag("p", HOW_TO_READ, class_="caption")
    return join([words, tag("div", tag("figure", caption, drawing), class_="grid wide")])
