"""The result: the headline, the comparison of models before and after, and the toxicity meter."""

from collections.abc import Mapping
from typing import Any

from plaudit.reporting.markup import Child, Html, join, scrolling, tag
from plaudit.reporting.numbers import ABSENT, significant
from plaudit.reporting.reading import Run, is_number
from plaudit.reporting.tables import Cell, Headline, Measure, comparison, headline, model_names

HOW_TO_READ = "● marks the best value of a row, where more is plainly better. Every model answered the same prompts."


def result(run: Run) -> Html | None:
    """The headline and, where models were evaluated, the comparison."""
    statement = headline(run)
    if statement is None:
        return None
    compared = _comparison(run) if run.summary.get("models") else None
    return join([_statement(statement), compared])


def _statement(statement: Headline) -> Html:
    change = tag(
        "p",
        tag("span", statement.quantity, class_="quantity"),
        " ",
        tag("span", statement.before, class_="before"),
        tag("span", " → ", class_="arrow"),
        tag("strong", statement.after),
        class_="change",
    )
    return tag("div", change, tag("p", statement.detail) if statement.detail else None, class_="headline")


def _comparison(run: Run) -> Html:
    names = model_names(run.summary)
    first = tag("th", tag("span", "Measure", class_="hidden"), scope="col")
    heads = [first, *(_model_head(run, name) for name in names)]
    rows = [tag("tr", _measure_head(run, measure), *map(_cell, measure.cells)) for measure in comparison(run.summary)]
    caption = tag("caption", "Every model on held-out prompts", class_="hidden")
    table = tag("table", caption, tag("thead", tag("tr", *heads)), tag("tbody", *rows), class_="comparison")
    return join([scrolling(table, "Comparison of models"), tag("p", HOW_TO_READ, class_="caption")])


def _model_head(run: Run, name: str) -> Html:
    roles = [role for role in ("baseline", "reference") if run.summary.get(role) == name]
    return tag("th", name, tag("small", ", ".join(roles)) if roles else None, scope="col")


def _measure_head(run: Run, measure: Measure) -> Html:
    explanation = measure.explanation
    if measure.name in run.summary.get("reward_sources", []) and run.trained_on:
        role = "trained on" if measure.name in run.trained_on else "independent of training"
        explanation = f"{explanation}; {role}"
    return tag("th", measure.name, tag("small", explanation), scope="row")


def _cell(cell: Cell) -> Html:
    if not cell.text:
        return tag("td", tag("span", ABSENT, aria_label="not measured", role="img"), tag("small"), class_="empty")
    mark = tag("span", "●", class_="mark", role="img", aria_label="best") if cell.best else None
    value = tag("b" if cell.best else "span", cell.text, class_="value")
    return tag("td", mark, value, tag("small", cell.detail), class_="best" if cell.best else None)


def toxicity(run: Run) -> Html | None:
    """The toxicity meter: one row per model, one column per number, as the evaluation names them."""
    measured = run.summary.get("toxicity")
    if not measured:
        return None
    rows = {model: _flat(numbers) for model, numbers in measured.items() if isinstance(numbers, Mapping)}
    columns = list(dict.fromkeys(key for numbers in rows.values() for key in numbers))
    if not columns:
        return None
    heads = [tag("th", column.replace("_", " "), scope="col") for column in ["model", *columns]]
    body = [
        tag("tr", tag("th", model, scope="row"), *(_number(numbers.get(column)) for column in columns))
        for model, numbers in rows.items()
    ]
    table = tag("table", tag("thead", tag("tr", *heads)), tag("tbody", *body))
    return scrolling(table, "Toxicity by model")


def _number(value: float | None) -> Child:
    return tag("td", ABSENT if value is None else significant(value))


def _flat(numbers: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    flat: dict[str, float] = {}
    for key, value in numbers.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key} ")
        elif is_number(value):
            flat[f"{prefix}{key}"] = value
    return flat
