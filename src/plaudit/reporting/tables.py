"""The comparison of models and the headline, as plain data for the page and the terminal."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.registries.stages import STAGES
from plaudit.reporting.logs import is_number
from plaudit.reporting.numbers import decimals_for, fixed, interval, percent, significant
from plaudit.reporting.reading import Run

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One value: ``text`` is the value, ``detail`` its uncertainty; ``best`` marks the best value of a row."""

    text: str
    detail: str = ""
    best: bool = False


@dataclass(frozen=True)
class Measure:
    """A row of the comparison: one cell per model, in the order of ``model_names``."""

    name: str
    explanation: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Headline:
    """The result in one sentence: a quantity before and after, and the evidence for it."""

    quantity: str
    before: str
    after: str
    detail: str

    def __str__(self) -> str:
        change = f"{self.quantity} {self.before} → {self.after}"
        return f"{change}; {self.detail}" if self.detail else change


def model_names(summary: Summary) -> list[str]:
    """Models in the order of the evaluation's configuration."""
    return list(summary.get("models", {}))


def comparison(summary: Summary) -> list[Measure]:
    """Every measure of every model.

    The best value is marked where higher is better: scores, win rates, distinct-n, ended responses. KL, perplexity
    and length describe how a model differs from the reference, so none of their values is marked.
    """
    measures = [_score(summary, source) for source in summary.get("reward_sources", [])]
    measures += [_win_rate(summary, source) for source in summary.get("reward_sources", [])]
    reference = summary.get("reference", "the reference")
    measures.append(_kl(summary, reference))
    measures += [
        _plain(summary, "perplexity", "Perplexity", f"per token, under {reference}", significant),
        _plain(summary, "length", "Length", "tokens per response", lambda value: fixed(value, 1)),
        _plain(summary, "distinct_1", "Distinct-1", "different words / words", _three, more_is_better=True),
        _plain(summary, "distinct_2", "Distinct-2", "different word pairs / pairs", _three, more_is_better=True),
        _plain(summary, "ended_fraction", "Ended", "responses that end by themselves", percent, more_is_better=True),
    ]
    return [measure for measure in measures if any(cell.text for cell in measure.cells)]


def _three(value: float) -> str:
    return fixed(value, 3)


def _score(summary: Summary, source: str) -> Measure:
    entries = [model.get("scores", {}).get(source) for model in summary["models"].values()]
    return Measure(source, "mean score ± standard error", _with_errors(entries, more_is_better=True))


def _kl(summary: Summary, reference: str) -> Measure:
    entries = [model.get("kl") for model in summary.get("models", {}).values()]
    return Measure("KL", f"nats per response, to {reference}", _with_errors(entries, more_is_better=False))


def _with_errors(entries: Sequence[Mapping[str, float] | None], more_is_better: bool) -> tuple[Cell, ...]:
    """Mean ± standard error, with the same number of decimals in the whole row."""
    errors = [entry.get("standard_error", 0.0) for entry in entries if entry and is_number(entry.get("mean"))]
    decimals = max((decimals_for(error) for error in errors if error), default=3)
    means = [entry["mean"] if entry and is_number(entry.get("mean")) else None for entry in entries]
    texts = ["" if mean is None else fixed(mean, decimals) for mean in means]
    details = [
        f"± {fixed(entry['standard_error'], decimals)}" if text and entry and entry.get("standard_error") else ""
        for text, entry in zip(texts, entries, strict=True)
    ]
    return _cells(means, texts, details, more_is_better)


def _win_rate(summary: Summary, source: str) -> Measure:
    baseline = summary.get("baseline", "the baseline")
    rates = [model.get("win_rate", {}).get(source) for model in summary["models"].values()]
    values = [rate["rate"] if rate else None for rate in rates]
    texts = ["" if value is None else percent(value) for value in values]
    details = [interval(rate["low"], rate["high"]) if rate else "" for rate in rates]
    explanation = f"prompts won against {baseline}, 95 % interval"
    return Measure(f"Win rate, {source}", explanation, _cells(values, texts, details, more_is_better=True))


def _plain(
    summary: Summary, key: str, name: str, explanation: str, write: Callable[[float], str], more_is_better: bool = False
) -> Measure:
    entries = [model.get(key) for model in summary.get("models", {}).values()]
    values = [value if is_number(value) else None for value in entries]
    texts = ["" if value is None else write(value) for value in values]
    return Measure(name, explanation, _cells(values, texts, [""] * len(texts), more_is_better))


def _cells(
    values: Sequence[float | None], texts: Sequence[str], details: Sequence[str], more_is_better: bool
) -> tuple[Cell, ...]:
    """Mark the best value. Values with the same text are equally good; if all are, none is marked."""
    known = [(value, text) for value, text in zip(values, texts, strict=True) if value is not None]
    best = max(known)[1] if more_is_better and len({text for _, text in known}) > 1 else None
    return tuple(Cell(text, detail, bool(text) and text == best) for text, detail in zip(texts, details, strict=True))


def compared_model(summary: Summary) -> str | None:
    """The model the headline is about: the last one listed that is not the baseline."""
    others = [name for name in model_names(summary) if name != summary.get("baseline")]
    return others[-1] if others else None


def judging_source(summary: Summary, trained_on: Sequence[str]) -> str | None:
    """The source for the headline: the first that was not trained on, or else the first."""
    sources = list(summary.get("reward_sources", []))
    independent = [source for source in sources if source not in trained_on]
    return next(iter(independent + sources), None)


def headline(run: Run) -> Headline | None:
    """The evaluation's result; without an evaluation, the change over the last training stage."""
    return _evaluated(run.summary, run.trained_on) or _trained(run)


def _evaluated(summary: Summary, trained_on: Sequence[str]) -> Headline | None:
    model, source, baseline = compared_model(summary), judging_source(summary, trained_on), summary.get("baseline")
    if model is None or source is None or baseline not in summary["models"]:
        return None
    before, after = (summary["models"][name]["scores"][source]["mean"] for name in (baseline, model))
    win = summary["models"][model].get("win_rate", {}).get(source)
    detail = ""
    if win:
        prompts = f"{summary['prompts']} held-out prompts" if "prompts" in summary else "held-out prompts"
        rate = f"{percent(win['rate'])} {interval(win['low'], win['high'])}"
        detail = f"{model} wins {rate} of {prompts} against {baseline}"
    return Headline(source, *_change(before, after), detail)


def _trained(run: Run) -> Headline | None:
    """The first and last value of the metric that sums up the latest stage which has one."""
    for stage in reversed(STAGES.names):
        metric, quantity = STAGES[stage].headline or ("", "")
        series = run.stage(stage).series(metric)
        if len(series) >= 2:
            change = _change(series.values[0], series.values[-1])
            detail = f"from step {series.steps[0]} to step {series.steps[-1]}"
            return Headline(quantity, *change, f"{detail}{_baselines(run) if stage == 'reward' else ''}")
    return None


def _baselines(run: Run) -> str:
    """The interval of the reward model's accuracy, and the accuracies of the baselines."""
    judges = judged(run.stage("reward").result)
    if not judges:
        return ""
    (_, _, low, high), *others = judges
    return "; ".join(
        [f", 95 % {interval(low, high)}", *(f"{name} {percent(accuracy)}" for name, accuracy, *_ in others)]
    )


def judged(result: Mapping[str, Any]) -> list[tuple[str, float, float, float]]:
    """Name, accuracy and bounds of its 95 % interval, for the reward model and the baselines.

    ``result`` is the reward stage's result. Empty if it does not contain these numbers.
    """

    def length(unit: str) -> tuple[str, str]:
        more = result.get(f"baseline/length_{unit}/sign", 1) > 0
        return f"{'more' if more else 'fewer'} {unit}", f"baseline/length_{unit}"

    named = (
        ("reward model", "held_out_accuracy"),
        length("tokens"),
        length("characters"),
        ("bag of words", "baseline/bag_of_words"),
    )
    found = []
    for name, key in named:
        accuracy, low, high = (result.get(f"{key}/{part}") for part in ("accuracy", "low", "high"))
        if is_number(accuracy) and is_number(low) and is_number(high):
            found.append((name, accuracy, low, high))
    return found


def _change(before: float, after: float) -> tuple[str, str]:
    if max(abs(before), abs(after)) < 0.1:
        return significant(before), significant(after)
    return fixed(before, 2), fixed(after, 2)
