"""Exports of Argilla: records with fields and responses, and tables of its two versions."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    first_of,
    has_value,
    ranking_or_tie,
    text_in,
)
from plaudit.data.formats.comparisons import KINDS, coding_of_record, pair_in
from plaudit.data.formats.prompts import PROMPTS, prompt_in
from plaudit.data.formats.values import label, structured, whole_number
from plaudit.data.formats.winners import lists_answers, ranks, winner
from plaudit.data.rows import LabeledRow, Origin, ResponseRow, Row

_ANSWERS = ("response", "completion", "generation", "answer", "output")
_SUFFIX = ".responses"
_STATUS = f"{_SUFFIX}.status"
_SUBMITTED = "submitted"
_RESPONSE = re.compile(r"(response|completion|generation|answer|output)[_-]?\w*")


def _argilla(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    fields, answers = structured(record["fields"]), structured(record["responses"])
    if not isinstance(fields, Mapping) or not isinstance(answers, Mapping):
        raise BadRowError("fields or responses is not an object, as it is in Argilla's records")
    votes = {question: _values(given) for question, given in answers.items()}
    yield from _judged(fields, votes, origin, kind)


def _values(given: Any) -> list[Any]:
    """Return the submitted values of a question; records list them as objects with a value and a status."""
    if not isinstance(given, list):
        raise BadRowError("responses does not hold lists of answers")
    return [
        answer.get("value") if isinstance(answer, Mapping) else answer
        for answer in given
        if not isinstance(answer, Mapping) or answer.get("status", _SUBMITTED) == _SUBMITTED
    ]


def _argilla_table(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """A table with the columns NAME.responses and NAME.responses.status for each question."""
    votes = {}
    for column in _answer_columns(record):
        values, states = structured(record[column]), structured(record.get(column.removesuffix(_SUFFIX) + _STATUS))
        if isinstance(values, list) and not states:
            states = [_SUBMITTED] * len(values)
        if not isinstance(values, list) or not isinstance(states, list) or len(values) != len(states):
            raise BadRowError(f"{column} is not a list with a status for each answer")
        votes[column.removesuffix(_SUFFIX)] = [
            v for v, state in zip(values, states, strict=True) if state == _SUBMITTED
        ]
    yield from _judged(record, votes, origin, kind)


def _answer_columns(record: Record) -> list[str]:
    return [column for column in record if column.endswith(_SUFFIX) and has_value(record[column])]


def _argilla_reads(record: Record) -> list[str]:
    questions = [column.removesuffix(_SUFFIX) for column in record if column.endswith(_SUFFIX)]
    described = [column for column in record if any(column.startswith(f"{name}.") for name in questions)]
    prompt, answer = first_of(record, PROMPTS), first_of(record, _ANSWERS)
    return [*described, *(pair_in(record) or ()), *(name for name in (prompt, answer) if name is not None)]


def _argilla_feedback(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """A table of Argilla 1, in which the column of a question lists the answers with user and status."""
    votes = {column: _values(structured(record[column])) for column in _feedback_columns(record)}
    yield from _judged(record, votes, origin, kind)


def _feedback_columns(record: Record) -> list[str]:
    return [column for column, value in record.items() if lists_answers(value)]


def _feedback_reads(record: Record) -> list[str]:
    questions, prompt = _feedback_columns(record), first_of(record, PROMPTS)
    suggestions = [f"{question}-suggestion{more}" for question in questions for more in ("", "-metadata")]
    texts = [column for column in record if _RESPONSE.fullmatch(column)]
    return [*questions, *suggestions, *texts, *((prompt,) if prompt is not None else ())]


def _judged(fields: Record, votes: Mapping[str, list[Any]], origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Yield what the one question that judges responses says: a ranking, a winner, or a label."""
    given = {question: values for question, values in votes.items() if values}
    if not given:
        yield Unused("record without a submitted answer")
        return
    if len(given) > 1:
        raise BadRowError(f"several questions are answered: {', '.join(given)}; keep the one that judges responses")
    ((question, values),) = given.items()
    pair, answer = pair_in(fields), first_of(fields, _ANSWERS)
    prompt = prompt_in(fields, PROMPTS)
    if all(isinstance(value, list | Mapping) for value in values):
        names, order = _mean_ranks(fields, values)
        yield from ranking_or_tie(prompt, [text_in(fields, name, "response") for name in names], order, origin, kind)
    elif pair is not None:
        better = winner(values, fields, pair, coding_of_record(values, pair, question), question)
        texts = [text_in(fields, name, "response") for name in pair]
        yield from ranking_or_tie(prompt, texts, ranks(better), origin, kind)
    elif answer is not None:
        yield from _labeled(prompt, text_in(fields, answer, "response"), values, question, origin, kind)
    else:
        raise BadRowError("the fields hold no response")


def _labeled(
    prompt: Any, response: str, values: Sequence[Any], question: str, origin: Origin, kind: Kind
) -> Iterator[Row | Unused]:
    labels = [label(value, question) for value in values]
    if 2 * sum(labels) == len(labels):
        yield Unused("as many annotators for as against the response")
    elif kind is not ResponseRow:
        yield LabeledRow(prompt, (response,), (2 * sum(labels) > len(labels),), origin)
    elif 2 * sum(labels) > len(labels):
        yield ResponseRow(prompt, response, origin)
    else:
        yield Unused("undesirable response")


def _mean_ranks(fields: Record, values: Sequence[Any]) -> tuple[list[str], list[float]]:
    """Return the ranked fields and their ranks, summed over the annotators."""
    rankings = [_ranks_by_field(value) for value in values]
    names = sorted(rankings[0])
    if any(sorted(ranked) != names for ranked in rankings) or not set(names) <= fields.keys():
        raise BadRowError("a ranking does not name the response fields")
    return names, [sum(ranked[name] for ranked in rankings) for name in names]


def _ranks_by_field(value: Any) -> dict[str, float]:
    """Return ranks by field, from best-first names, objects with rank and value, or an object of both lists."""
    if isinstance(value, Mapping):
        given, names = value.get("rank"), value.get("value")
        if not isinstance(given, list) or not isinstance(names, list) or len(given) != len(names):
            raise BadRowError("a ranking is not a list of names or of objects with rank and value")
        value = [{"rank": rank, "value": name} for rank, name in zip(given, names, strict=True)]
    if all(isinstance(name, str) for name in value):
        return {name: float(rank) for rank, name in enumerate(value)}
    if not all(isinstance(entry, Mapping) and isinstance(entry.get("value"), str) for entry in value):
        raise BadRowError("a ranking is not a list of names or of objects with rank and value")
    return {entry["value"]: float(whole_number(entry.get("rank"), "rank")) for entry in value}


FORMATS = (
    Format(
        "argilla",
        ("fields", "responses"),
        KINDS,
        _argilla,
        ignores=("id", "suggestions", "metadata", "vectors", "status", "_server_id"),
        matches=lambda record: isinstance(structured(record["fields"]), Mapping),
        judgement=("responses",),
        unordered=True,
        ties="as many votes for each: counted, no row",
        labels="the submitted answers: a field's name, a ranking of fields, or a label of one response",
    ),
    Format(
        "argilla_table",
        (PROMPTS,),
        KINDS,
        _argilla_table,
        varying=_argilla_reads,
        matches=lambda record: bool(_answer_columns(record)),
        unordered=True,
        recognized_by="a prompt, responses, and a column NAME`.responses` per question",
        ties="as many votes for each: counted, no row",
        labels="the submitted answers, as in `argilla`",
    ),
    Format(
        "argilla_feedback",
        (PROMPTS,),
        KINDS,
        _argilla_feedback,
        ignores=("external_id", "metadata"),
        varying=_feedback_reads,
        matches=lambda record: bool(_feedback_columns(record)),
        unordered=True,
        recognized_by="a prompt, responses, and a column of answers with `value` and `status` per question",
        ties="as many votes for each: counted, no row",
        labels="the submitted answers, as in `argilla`",
    ),
)
