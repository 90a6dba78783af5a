"""Numbers and labels in the spellings in which data files store them."""

import ast
import json
import re
import sys
from typing import Any

from plaudit.data.formats.base import BadRowError

# Pairs of opposites that leave no doubt which one is the good response. Words for one quality, such as safe or short,
# are not among them.
_OPPOSITES = {
    "true": "false", "1": "0", "1.0": "0.0", "yes": "no", "y": "n", "good": "bad", "chosen": "rejected",
    "accepted": "rejected", "accept": "reject", "desirable": "undesirable", "desired": "undesired",
    "preferred": "dispreferred", "positive": "negative", "correct": "incorrect", "like": "dislike",
    "liked": "disliked", "thumbs_up": "thumbs_down", "thumb_up": "thumb_down", "thumbsup": "thumbsdown",
    "up": "down", "upvote": "downvote",
    "👍": "👎",
}  # fmt: skip
_TRUE, _FALSE = frozenset(_OPPOSITES), frozenset(_OPPOSITES.values()) | {"-1", "-1.0"}
_BETWEEN_WORDS = re.compile(r"(?<=[a-z])[ _-]+(?=[a-z])")
SPELLED_LABELS = (
    "true/false, 1/0, 1/-1, yes/no, good/bad, chosen/rejected, accepted/rejected, desirable/undesirable, "
    "preferred/dispreferred, positive/negative, correct/incorrect, like/dislike, thumbs up/down; numbers also as 1.0 "
    "and text"
)
"""The labels that ``label`` reads, for the documentation."""

_LARGEST = sys.float_info.max


def label(value: object, name: str = "label") -> bool:
    """Return a label as bool; raises BadRowError.

    Read are true and false, 1 and 0 or -1 (also as 1.0 and as text), and words such as chosen and rejected in any case.
    """
    if isinstance(value, bool):
        return value
    # Numbers with thousands of digits cannot be written as text.
    if isinstance(value, float | str) or (isinstance(value, int) and abs(value) < 2):
        spelled = _BETWEEN_WORDS.sub("_", str(value).strip().lower())
        if spelled in _TRUE:
            return True
        if spelled in _FALSE:
            return False
    raise BadRowError(f"{name} is not true or false: {shown(value)}")


def whole_number(value: object, name: str) -> int:
    """Return a whole number, which may be stored as a float (1.0) or as text. Raises BadRowError."""
    found = _finite(value)
    if found is None or found != int(found):
        raise BadRowError(f"{name} is not a whole number: {shown(value)}")
    return int(found)


def number(value: object, name: str) -> float:
    """Return a finite number, which may be stored as text. Raises BadRowError."""
    found = _finite(value)
    if found is None:
        raise BadRowError(f"{name} is not a number: {shown(value)}")
    return found


def structured(value: Any) -> Any:
    """Return the list or object in a text, written as JSON or as Python prints it; any other value unchanged."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    for parse in (json.loads, ast.literal_eval):
        try:
            parsed = parse(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(parsed, list | dict):
            return parsed
    return value


def shown(value: object) -> str:
    """Return a value for a message, on one line and shortened."""
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a number with hundreds of digits"
    text = " ".join(str(value)[:400].split())
    return (text if len(text) <= 40 else text[:40] + "…") or "(nothing)"


def _finite(value: object) -> float | None:
    found = _number_of_text(value) if isinstance(value, str) else value
    if isinstance(found, bool) or not isinstance(found, int | float):
        return None
    return found if abs(found) <= _LARGEST else None


def _number_of_text(value: str) -> float | None:
    # int and float also accept digits of other scripts and underscores, which no data file means as numbers.
    if not value.isascii() or "_" in value:
        return None
    for parse in (int, float):
        try:
            return parse(value)
        except ValueError:
            continue
    return None
