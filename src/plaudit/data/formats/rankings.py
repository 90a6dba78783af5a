"""Several responses to a prompt with human ranks (lower is better) or scores (higher is better)."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
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
from plaudit.data.formats.values import number, structured, whole_number
from plaudit.data.formats.winners import Coding, ranks, winner
from plaudit.data.rows import LabeledRow, Origin, PromptRow, RankingRow, ResponseRow, Row
from plaudit.errors import PlauditError

_KINDS = (RankingRow, LabeledRow, ResponseRow, PromptRow)
_RESPONSES = ("responses", "completions", "answers", "candidates", "outputs", "generations")
_BEST = ("best", "best_index", "best_response", "best_response_id", "choice", "winner", "chosen_index")
_RANKS, _SCORES = ("ranks", "rank", "ranking"), ("scores", "ratings", "rewards", "score", "rating")
_SCORE = ("score", "rating", "reward", "pm_score")
_TEXTS = ("response", "answer", "text", "content", "completion", "output", "generation")


def _ranked_responses(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    column = first_of(record, _RESPONSES) or "responses"
    responses = structured(record.get(column))
    if not isinstance(responses, list | tuple) or not all(isinstance(response, str) for response in responses):
        raise BadRowError(f"{column} is not a list of strings")
    texts = [text_of(response, "response") for response in responses]
    yield from ranking_or_tie(prompt_in(record, PROMPTS), texts, _given_ranks(record), origin, kind)


def _given_ranks(record: Record) -> Sequence[float]:
    ranks = first_of(record, _RANKS)
    if ranks is not None:
        numbers = _numbers(record[ranks], ranks)
        if ranks == "ranking" and _may_be_an_order(numbers):
            raise BadRowError("ranking may hold ranks or list responses from the best; if ranks, rename it to ranks")
        return numbers
    scores = first_of(record, _SCORES) or "scores"
    return [-score for score in _numbers(record.get(scores), scores)]


def _may_be_an_order(ranks: Sequence[float]) -> bool:
    """Return whether numbers of responses in order would say something else than the same numbers as ranks."""
    ordered = sorted(ranks)
    first = ordered[0] if ordered else 0
    if first not in (0, 1) or ordered != [first + number for number in range(len(ranks))]:
        return False
    return [ranks.index(number) + first for number in ordered] != list(ranks)


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
    score = first_of(entry, _SCORE) or "score"
    return -number(entry.get(score), score)


def _best_of_responses(coding: Coding, record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """One response of a list is the best one; the others are tied. Of two, it may also be a side or a tie."""
    responses, judgement = _list_in(record), first_of(record, _BEST) or "best"
    texts = [text_of(response, "response") for response in responses]
    if len(texts) == 2:
        sides = dict(zip("ab", texts, strict=True))
        ordered = list(ranks(winner(record.get(judgement), sides, ("a", "b"), coding, judgement)))
    else:
        value = record.get(judgement)
        if isinstance(value, str) and texts.count(value) == 1:
            best = texts.index(value)
        else:
            best = whole_number(value, judgement) - _start(coding, judgement)
        if not 0 <= best < len(texts):
            raise BadRowError(f"{judgement} is not the number of a response")
        ordered = [int(index != best) for index in range(len(texts))]
    yield from ranking_or_tie(prompt_in(record, PROMPTS), texts, ordered, origin, kind)


def _start(coding: Coding, judgement: str) -> int:
    if coding.start is None:
        raise BadRowError(f"{judgement} is not the number of a response")
    return coding.start


def _list_in(record: Record) -> list[Any]:
    column = first_of(record, _RESPONSES) or "responses"
    responses = structured(record.get(column))
    if not isinstance(responses, list | tuple):
        raise BadRowError(f"{column} is not a list of strings")
    return list(responses)


def _settled_best(known: Format, records: Sequence[Record]) -> Format:
    """Return the format with the first number of a response: 0 if 0 occurs, 1 if the number of all responses occurs."""
    numbers, beyond = set(), False
    for record in records:
        try:
            number_ = whole_number(record.get(first_of(record, _BEST) or "best"), "")
            beyond |= number_ == len(_list_in(record))
        except BadRowError:
            continue
        numbers.add(number_)
    if numbers and (0 in numbers) == beyond:
        raise PlauditError(
            "the number of the best response may count from 0 or from 1; write ranks, which are 0 for the best "
            "response and 1 for the others"
        )
    coding = Coding((0 if 0 in numbers else 1) if numbers else None)
    return replace(known, convert=lambda record, origin, kind: _best_of_responses(coding, record, origin, kind))


def _are_texts(record: Record) -> bool:
    responses = structured(record[first_of(record, _RESPONSES) or "responses"])
    return isinstance(responses, list | tuple) and all(isinstance(response, str) for response in responses)


def _are_objects(record: Record) -> bool:
    entries = structured(record[first_of(record, _RESPONSES) or "responses"])
    return (
        isinstance(entries, list | tuple)
        and bool(entries)
        and all(isinstance(entry, Mapping) and first_of(entry, _TEXTS) for entry in entries)
        and any(key in entry for entry in entries for key in ("rank", *_SCORE))
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
        "best_of_responses",
        (PROMPTS, _RESPONSES, _BEST),
        _KINDS,
        lambda record, origin, kind: _best_of_responses(Coding(None), record, origin, kind),
        also_reads=AROUND,
        varying=input_read,
        matches=_are_texts,
        settle=_settled_best,
        judgement=_BEST,
        unordered=True,
        ties="all but the best are tied; a tie of two gives no row",
        dialogue=True,
        labels="the number of the best response, from 0 or 1; of two also a side, as in `comparison`",
    ),
    Format(
        "responses_with_ranks",
        (PROMPTS, _RESPONSES),
        _KINDS,
        _responses_with_ranks,
        also_reads=AROUND,
        varying=input_read,
        matches=_are_objects,
        ignores=("good_natured",),
        judgement=_RESPONSES,
        recognized_by="a prompt and a list of objects with a text and `rank`, `score`, `rating`, …",
        ties="kept; a tie of all gives no row",
        dialogue=True,
        labels="lower ranks and higher scores are better",
    ),
)
