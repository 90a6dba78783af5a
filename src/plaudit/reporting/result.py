"""The result: the headline, the comparison of models, and the toxicity table."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from plaudit.reporting.logs import is_number
from plaudit.reporting.reading import Run
from plaudit.reporting.tables import Measure, comparison, headline, model_names


def result(run: Run) -> Mapping[str, Any] | None:
    """The headline and, if models were evaluated, the comparison."""
    statement = headline(run)
    if statement is None:
        return None
    evaluated = bool(run.summary.get("models"))
    return {
        "headline": statement,
        "models": [{"name": name, "roles": _roles(run, name)} for name in model_names(run.summary)],
        "measures": [_explained(run, measure) for measure in comparison(run.summary)] if evaluated else [],
        "prompts": run.summary.get("prompts_used", ""),
    }


def _roles(run: Run, name: str) -> str:
    return ", ".join(role for role in ("baseline", "reference") if run.summary.get(role) == name)


def _explained(run: Run, measure: Measure) -> Measure:
    """Add to a reward source's explanation whether the policy was trained on it."""
    if measure.name not in run.summary.get("reward_sources", []) or not run.trained_on:
        return measure
    role = "trained on" if measure.name in run.trained_on else "independent of training"
    return replace(measure, explanation=f"{measure.explanation}; {role}")


def toxicity(run: Run) -> Mapping[str, Any] | None:
    """The toxicity table, and how it was measured: one row per model, one column per number of the summary."""
    measured = run.summary.get("toxicity") or {}
    rows = [(model, _flat(numbers)) for model, numbers in measured.items() if isinstance(numbers, Mapping)]
    columns = list(dict.fromkeys(key for _, numbers in rows for key in numbers))
    measure = run.summary.get("toxicity_measure") or {}
    told = [str(measure[key]) for key in ("definition", "classifier", "prompts_used") if key in measure]
    return {"columns": columns, "rows": rows, "measure": "; ".join(told)} if columns else None


def _flat(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key} ")
        elif is_number(value):
            flat[f"{prefix}{key}"] = value
    return flat
