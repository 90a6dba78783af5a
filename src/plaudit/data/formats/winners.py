"""The judgement of two responses: a winner, votes of several annotators, or a score for each response."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from plaudit.data.formats.base import BadRowError, Record
from plaudit.data.formats.values import number, shown, structured
from plaudit.errors import PlauditError

FIRST, SECOND, TIE = 0, 1, None
Winner = int | None
"""The index of the better one of two responses; None for a tie."""

WINNERS = (
    "winner", "winner_id", "better", "better_response", "better_response_id", "best", "best_response", "choice",
    "preferred", "preferred_response", "preference", "human_preference", "verdict", "vote", "votes", "judgement",
    "judgment", "selected", "chosen", "label", "labels",
)  # fmt: skip
"""Columns that say which response is the better one."""

_SIDES = {"a": 0, "left": 0, "first": 0, "b": 1, "right": 1, "second": 1}
_TIES = {"tie", "draw", "equal", "same", "both", "neither", "none", "bothbad", "bothgood", "tiebothbad", "nopreference"}
# "Both are bad", "both responses are equally good"
_BOTH = re.compile(r"both(?:responses|answers|models|outputs)?(?:are)?(?:equally)?(?:good|bad|helpful|wrong|correct)")
# "response_2", "Model A", "[[B]]", "left is better", "2"
_WORDS = re.compile(
    r"(?:the)?(?:(?:model|response|answer|output|assistant|completion|candidate|conversation|summary|text|option|system)s?)?"
    r"(a|b|left|right|first|second|[012])(?:model|response|answer|output|assistant|completion|summary)?"
    r"(?:(?:is)?better|wins|won)?"
)
# "A>>B", "[[B>A]]", "A=B", "b < a"
_ORDER = re.compile(r"\W*([ab])\s*(>{1,2}|<{1,2}|={1,2})\s*([ab])\W*", re.IGNORECASE)
_VOTE_KEYS = ("winner", "value", "preference", "vote", "choice", "label", "selected")


# In columns of these names, 0 and 1 are numbers of responses. In others, such as preference or label, they may also say
# whether the first response is better.
_INDEX_NAMES = ("winner", "choice", "best", "selected", "vote", "verdict", "_id")


@dataclass(frozen=True)
class Coding:
    """How a file numbers two responses: from 0, from 1, or not at all."""

    start: int | None
    where: str = ""


def winner(value: Any, record: Record, names: tuple[str, str], coding: Coding, column: str) -> Winner:
    """Return which of two responses, in the columns ``names``, a value says is better. Raises BadRowError.

    The value is a side (a, left, first), a tie, a number in the file's coding, the name of a response's column, the
    name of a model, a list of several annotators' values, of which the majority counts, or an object with the number
    of votes for each side.
    """
    counts = _counts_by_side(structured(value), record, names)
    if counts is not None:
        if not any(counts.values()):
            raise BadRowError(f"{column} holds no vote")
        return by_scores([counts.get(side, 0) for side in (FIRST, SECOND)], (column, column))
    value = _votes(value)
    if isinstance(value, list | tuple):
        return majority([_single(_vote(vote), record, names, coding, column) for vote in value], column)
    return _single(value, record, names, coding, column)


def _single(value: Any, record: Record, names: tuple[str, str], coding: Coding, column: str) -> Winner:
    """Return which response one value says is better. Raises BadRowError, also for a list in the place of a vote."""
    if isinstance(value, str):
        named = _named(value, record, names)
        if named is not None:
            return named
        squeezed = _squeezed(value)
        if _is_tie(squeezed):
            return TIE
        found = _WORDS.fullmatch(squeezed)
        if found is not None and found[1] in _SIDES:
            return _SIDES[found[1]]
        if found is not None:
            value = found[1]
        elif (ordered := _ORDER.fullmatch(value)) is not None:
            return _first_of_order(*ordered.groups())
        elif (text := _text(value, record, names)) is not None:
            return text
    try:
        return numbered(number(value, column), coding, column)
    except BadRowError:
        raise BadRowError(f"{column} does not say which response is better: {shown(value)}") from None


def _first_of_order(left: str, sign: str, right: str) -> Winner:
    if left.lower() == right.lower():
        raise BadRowError(f"a judgement compares {left} with itself")
    if sign[0] == "=":
        return TIE
    return _SIDES[(left if sign[0] == ">" else right).lower()]


def _text(value: str, record: Record, names: tuple[str, str]) -> Winner:
    """Return the response that a value repeats."""
    texts = [record.get(name) for name in names]
    return texts.index(value) if value in texts and texts[0] != texts[1] else None


def numbered(value: float, coding: Coding, column: str) -> Winner:
    """Return which response a number means; between 1 and 2 it is the one that it is closer to. Raises BadRowError."""
    if (
        coding.start is None
        or not coding.start <= value <= coding.start + 1
        or (coding.start == 0 and value != int(value))
    ):
        raise BadRowError(f"{column} is {value:g}, which the coding of the file's first records does not have")
    distance = value - coding.start
    return TIE if distance == 0.5 else FIRST if distance < 0.5 else SECOND


def majority(votes: Sequence[Winner], column: str) -> Winner:
    """Return the side with more votes than the other; raises BadRowError without any vote."""
    if not votes:
        raise BadRowError(f"{column} holds no vote")
    first, second = votes.count(FIRST), votes.count(SECOND)
    return TIE if first == second else FIRST if first > second else SECOND


def by_scores(scores: Sequence[Any], names: Sequence[str]) -> Winner:
    """Return the response with the higher one of two scores; raises BadRowError."""
    first, second = (number(score, name) for score, name in zip(scores, names, strict=True))
    return TIE if first == second else FIRST if first > second else SECOND


def by_strength(value: Any, column: str) -> Winner:
    """Return the response that a signed strength prefers: negative numbers prefer the first. Raises BadRowError."""
    strength = number(value, column)
    return TIE if strength == 0 else FIRST if strength < 0 else SECOND


def ranks(better: Winner) -> tuple[int, int]:
    """Return the ranks of two responses; equal for a tie."""
    return (0, 0) if better is None else (0, 1) if better == FIRST else (1, 0)


def coding_of(values: Sequence[Any], suffixes: tuple[str, str], column: str) -> Coding:
    """Return the coding of a file's first values, with the endings of the names of the responses' columns.

    Numbers count from 0 if the responses are called 0 and 1, or if 0 and 1 occur, the responses have no numbers and
    the column's name is one of a choice; they count from 1 if nothing is below 1 and something is above. Raises
    PlauditError if both could be meant.
    """
    found = {value for each in values for value in _numbers(each)}
    if not found:
        return Coding(None)
    if all(sorted(_numbers(each)) == [0, 1] for each in values):
        raise PlauditError(
            f"{column} holds 0 and 1 in every one of the first records, which may be a number for each response or two "
            f"annotators' votes; write {suffixes[0]}, {suffixes[1]} or tie"
        )
    where = f"{column} is {', '.join(f'{value:g}' for value in sorted(found)[:4])} in the first records"
    numbers = tuple(suffixes) if set(suffixes) <= {"0", "1", "2"} else None
    if numbers == ("0", "1") and found <= {0, 1}:
        return Coding(0)
    from_one = all(1 <= value <= 2 for value in found)
    if from_one and (numbers == ("1", "2") or max(found) > 1):
        return Coding(1)
    names_one = any(word in column for word in _INDEX_NAMES)
    if names_one and numbers is None and 0 in found and found <= {0, 1}:
        return Coding(0)
    raise PlauditError(
        f"{where}, which may count the responses from 0 or from 1, or say whether the first one is better; write "
        f"{suffixes[0]}, {suffixes[1]} or tie"
    )


def _numbers(value: Any) -> list[float]:
    """Return the numbers among a judgement's values, which may be votes; "response_2" holds the number 2."""
    if _counts_by_side(structured(value), {}, None) is not None:
        return []
    value = _votes(value)
    if isinstance(value, list | tuple):
        return [number_ for vote in value for number_ in _numbers(vote)]
    if isinstance(value, str) and (found := _WORDS.fullmatch(_squeezed(value))) and found[1] not in _SIDES:
        value = found[1]
    try:
        return [number(_vote(value), "")]
    except BadRowError:
        # What is no number says nothing about the coding; it is read, or found bad, when its record is converted.
        return []


def _counts_by_side(value: Any, record: Record, names: tuple[str, str] | None) -> dict[Winner, float] | None:
    """Return the numbers of votes in an object with a number for each side; None for anything else."""
    if not isinstance(value, Mapping) or not all(isinstance(each, int | float) for each in value.values()):
        return None
    sides = [_side_of(key, record, names) for key in value if isinstance(key, str)]
    if len(sides) < len(value) or len(set(sides)) < len(sides) or "" in sides or not {FIRST, SECOND} & set(sides):
        return None
    return {side: float(count) for side, count in zip(sides, value.values(), strict=True) if not isinstance(side, str)}


def _side_of(key: str, record: Record, names: tuple[str, str] | None) -> Winner | Literal[""]:
    """Return the side that a key names, TIE, or nothing."""
    if names is not None and (named := _named(key, record, names)) is not None:
        return named
    squeezed = _squeezed(key)
    found = _WORDS.fullmatch(squeezed)
    if _is_tie(squeezed):
        return TIE
    if found is None or squeezed.isdigit():  # a number may be that of an annotator
        return ""
    return int(found[1]) if names is None and found[1].isdigit() else _SIDES.get(found[1], "")


def lists_answers(value: Any) -> bool:
    """Return whether a value lists answers with value and status, as Argilla's tables do."""
    answers = structured(value)
    return (
        isinstance(answers, list)
        and bool(answers)
        and all(isinstance(answer, Mapping) and answer.keys() >= {"value", "status"} for answer in answers)
    )


def _votes(value: Any) -> Any:
    """Return several annotators' votes as a list; they may be stored as JSON text, or by the annotators' names."""
    value = structured(value)
    if isinstance(value, Mapping):
        return [_vote(value)] if any(key in value for key in _VOTE_KEYS) else list(value.values())
    return value


def _vote(vote: Any) -> Any:
    """Return the value of one annotator's vote, which may be an object with it."""
    if not isinstance(vote, Mapping):
        return vote
    key = next((key for key in _VOTE_KEYS if key in vote), None)
    if key is None:
        raise BadRowError(f"a vote has none of {', '.join(_VOTE_KEYS)}")
    return vote[key]


def _named(value: str, record: Record, names: tuple[str, str]) -> Winner:
    """Return the response whose column, or whose model in another column, has this name."""
    wanted = _squeezed(value)
    if wanted in (columns := [_squeezed(name) for name in names]) and columns[0] != columns[1]:
        return columns.index(wanted)
    for stem in ("model", "generator", "policy"):
        models = [str(record.get(f"{stem}_{ending}")) for ending in map(ending_of, names)]
        if value in models and models[0] != models[1]:
            return models.index(value)
    return None


def ending_of(name: str) -> str:
    """Return the ending of a response's column, such as ``a`` of ``response_a``."""
    found = re.search(r"(?:^|(?<=[^a-z]))(left|right|first|second|a|b)(?=_response$)", name) or re.search(
        r"(left|right|first|second|[aAbB]|[012])$", name
    )
    return found[1] if found else name


def _is_tie(squeezed: str) -> bool:
    return squeezed in _TIES or _BOTH.fullmatch(squeezed) is not None


def _squeezed(text: str) -> str:
    return re.sub(r"[^a-z0-9]", "", text.lower())
