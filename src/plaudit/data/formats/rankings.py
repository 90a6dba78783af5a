"""Several responses to a prompt with human ranks (lower is better) or scores (higher is better)."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    first_of,
    ranking_or_tie,
    text_of,
)
from plaudit.data.formats.prompts import AROUND, PROMPTS, input_read, prompt_in
from plaudit.data.formats.values import number, structured
from plaudit.data.rows import LabelledRow, Origin, PromptRow, RankingRow, ResponseRow, Row

_KINDS = (RankingRow, LabelledRow, ResponseRow, PromptRow)
_RESPONSES = ("responses", "completions", "answers", "candidates", "outputs", "generations")
_RANKS, _SCORES = ("ranks", "rank", "ranking"), ("scores", "ratings", "rewards", "score", "rating")
_TEXTS = ("response", "answer", "text", "content", "completion", "output", "generation")


def _ranked_responses(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    column = first_of(record, _RESPONSES) or "responses"
    responses = structured(record.get(column))
    if not isinstance(responses, list | tuple) or not all(isinstance(response, str) for response in responses):
        raise BadRowError(f"{column} is not a list of strings")
    texts = [text_of(response, "response") for response in responses]
    yield from ranking_or_tie(prompt_in(record, PROMPTS), texts, _ranks(record), origin, kind)


def _ranks(record: Record) -> Sequence[float]:
    ranks = first_of(record, _RANKS)
    if ranks is not None:
        return _numbers(record[ranks], ranks)
    scores = first_of(record, _SCORES) or "scores"
    return [-score for score in _numbers(record.get(scores), scores)]


def _numbers(values: object, column: str) -> list[float]:
    values = structured(values)
    if not isinstance(values, list | tuple):
        raise BadRowError(f"{column} is not a list of numbers")
    return [number(value, column) for value in values]


def _responses_with_ranks(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Each response is an object with its text and its rank or score, as in Nectar (Zhu et al. 2023)."""
    column = first_of(record, _RESPONSES) or "responses"
    entries = structured(record.get(column))
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise BadRowError(f"{column} is not a list of objects")
    texts = [text_of(entry.get(first_of(entry, _TEXTS) or "response"), "response") for entry in entries]
    yield from ranking_or_tie(prompt_in(record, PROMPTS), texts, [_rank(entry) for entry in entries], origin, kind)


def _rank(entry: Mapping[str, Any]) -> float:
    rank = first_of(entry, ("rank",))
    if rank is not None:
        return number(entry[rank], rank)
    score = first_of(entry, ("score", "rating", "reward")) or "score"
    return -number(entry.get(score), score)


def _are_objects(record: Record) -> bool:
    entries = structured(record[first_of(record, _RESPONSES) or "responses"])
    return (
        isinstance(entries, list | tuple)
        and bool(entries)
        and all(isinstance(entry, Mapping) and first_of(entry, _TEXTS) for entry in entries)
        and any(key in entry for entry in entries for key in ("rank", "score", "rating", "reward"))
    )


FORMATS = (
    Format(
        "ranked_responses",
        (PROMPTS, _RESPONSES, (*_RANKS, *_SCORES)),
        _KINDS,
        _ranked_responses,
        also_reads=AROUND,
        varying=input_read,
        judgement=(*_RANKS, *_SCORES),
        ties="kept; a tie of all gives no row",
        dialogue=True,
        labels="lower ranks and higher scores are better",
    ),
    Format(
        "responses_with_ranks",
        (PROMPTS, _RESPONSES),
        _KINDS,
        _responses_with_ranks,
        also_reads=AROUND,
        varying=input_read,
        matches=_are_objects,
        judgement=_RESPONSES,
        recognised_by="a prompt and a list of objects with a text and `rank`, `score`, `rating` or `reward`",
        ties="kept; a tie of all gives no row",
        dialogue=True,
        labels="lower ranks and higher scores are better",
    ),
)
