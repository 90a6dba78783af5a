"""The comparisons of HelpSteer2 and HelpSteer3 (Wang et al. 2024, 2025): preferences, feedback and edits."""

import re
from collections.abc import Iterator

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    checked_prompt,
    ranking_or_tie,
    text_in,
)
from plaudit.data.formats.comparisons import KINDS
from plaudit.data.formats.dialogues import dialogue_in, not_learned
from plaudit.data.formats.prompts import prompt_in
from plaudit.data.formats.values import shown, structured
from plaudit.data.formats.winners import Winner, by_strength, ranks
from plaudit.data.rows import Origin, Prompt, Row

_PAIR, _FEEDBACK = ("response1", "response2"), ("feedback1", "feedback2")
_EDITED, _QUALITY = ("edited_response", "original_response"), ("good_edited_response", "bad_edited_response")
_GRADES = ("not", "slightly", "partially", "mostly", "perfectly")
_GRADE = re.compile(rf"\W*the response is ({'|'.join(_GRADES)}) helpful\b", re.IGNORECASE)


def _context(record: Record) -> Prompt:
    return checked_prompt(not_learned(dialogue_in(record, "context")))


def _helpsteer2(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    better = by_strength(record["preference_strength"], "preference_strength")
    answers = [text_in(record, name, "response") for name in ("response_1", "response_2")]
    yield from ranking_or_tie(prompt_in(record), answers, ranks(better), origin, kind)


def _helpsteer3(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    better = by_strength(record["overall_preference"], "overall_preference")
    yield from _compared(record, _PAIR, better, origin, kind)


def _feedback(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """Every annotator's feedback begins with a grade; the mean grade of a response is its score."""
    grades = [_grades(record, column) for column in _FEEDBACK]
    for column, given in zip(_FEEDBACK, grades, strict=True):
        yield from [Unused("feedback without a grade")] * given.count(None)
        if all(grade is None for grade in given):
            raise BadRowError(f"{column} holds no text that begins with The response is … helpful")
    first, second = ([grade for grade in given if grade is not None] for given in grades)
    difference = sum(second) * len(first) - sum(first) * len(second)
    yield from _compared(record, _PAIR, by_strength(difference, "feedback"), origin, kind)


def _grades(record: Record, column: str) -> list[int | None]:
    texts = structured(record[column])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise BadRowError(f"{column} is not a list of texts: {shown(texts)}")
    found = map(_GRADE.match, texts)
    return [_GRADES.index(match[1].lower()) if match else None for match in found]


def _edit(names: tuple[str, str], record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    yield from _compared(record, names, 0, origin, kind)


def _compared(
    record: Record, names: tuple[str, str], better: Winner, origin: Origin, kind: Kind
) -> Iterator[Row | Unused]:
    answers = [text_in(record, name, "response") for name in names]
    yield from ranking_or_tie(_context(record), answers, ranks(better), origin, kind)


FORMATS = (
    Format(
        "helpsteer2_preference",
        ("prompt", "response_1", "response_2", "preference_strength"),
        KINDS,
        _helpsteer2,
        ignores=(
            "preference_statement",
            "preference_elaboration",
            "three_most_similar_preferences",
            "all_preferences_unprocessed",
            "split",
        ),
        judgement=("preference_strength",),
        unordered=True,
        ties="0: counted, no row",
        labels="-3 (the first) to 3 (the second)",
    ),
    Format(
        "helpsteer3",
        ("context", *_PAIR, "overall_preference"),
        KINDS,
        _helpsteer3,
        ignores=("individual_preference",),
        judgement=("overall_preference",),
        unordered=True,
        ties="0: counted, no row",
        dialogue=True,
        labels="-3 (the first) to 3 (the second)",
    ),
    Format(
        "helpsteer3_feedback",
        ("context", *_PAIR, *_FEEDBACK),
        KINDS,
        _feedback,
        judgement=_FEEDBACK,
        unordered=True,
        ties="equal mean grades: counted, no row",
        dialogue=True,
        labels="the mean grade with which the texts begin, from `not` to `perfectly helpful`",
    ),
    Format(
        "helpsteer3_edit",
        ("context", *_EDITED),
        KINDS,
        lambda record, origin, kind: _edit(_EDITED, record, origin, kind),
        ignores=("feedback", "change_summary"),
        judgement=_EDITED,
        ties="none",
        dialogue=True,
        labels="the edited response is the better one",
    ),
    Format(
        "helpsteer3_edit_quality",
        ("context", *_QUALITY),
        KINDS,
        lambda record, origin, kind: _edit(_QUALITY, record, origin, kind),
        ignores=("original_response", "feedback"),
        judgement=_QUALITY,
        ties="none",
        dialogue=True,
        labels="the column's name",
    ),
)
