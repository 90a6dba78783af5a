"""JSON as RFC 8259 defines it, without what Python's decoder lets pass: NaN, infinity, and repeated keys."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from plaudit.data.readers.base import Malformed, Record, finite
from plaudit.data.readers.opening import named

# Python's decoder and everything that walks through a record later recurses once per level.
_DEEPEST = 200
# Longer whole numbers do not fit into a float.
_MOST_DIGITS = 308
_SCALARS = {int, float, bool, type(None)}
_LARGE = 2**63
_BEFORE_COLON = re.compile(rb'"[ \t\r\n]*:')
_UNESCAPED_BEFORE_COLON = re.compile(rb'(?<!\\)(?:\\\\)*"[ \t\r\n]*:')


def quick_record(text: bytes) -> Record | None:
    """Return the record that a JSON text holds; None if only ``StrictDecoder`` can tell what is there.

    The parser refuses everything that is not strict JSON except repeated keys, deep nesting and huge numbers. In the
    text, a quotation mark and a colon end each key, so if they occur as often as the record has keys, none is repeated.
    """
    try:
        record = from_json(text, allow_inf_nan=False, cache_strings="keys")
    except ValueError:
        return None
    if type(record) is not dict:
        return None
    keys = len(record)
    others = [value for value in record.values() if type(value) is not str]
    if others:
        if text.count(b"[") + text.count(b"{") > _DEEPEST:
            return None
        keys += _keys_in(others)
    if keys != len(_BEFORE_COLON.findall(text)) and keys != len(_UNESCAPED_BEFORE_COLON.findall(text)):
        return None
    return record


def _keys_in(value: Any) -> Any:
    """Return the number of keys in a value; NaN, which equals no number, if it holds a large number."""
    kind = type(value)
    if kind is dict:
        return len(value) + sum(map(_keys_in, value.values()))
    if kind is list:
        return sum(map(_keys_in, value))
    if kind is int or kind is float:
        return 0 if -_LARGE < value < _LARGE else math.nan
    return 0


class StrictDecoder:
    """Decodes JSON values and notes what is wrong with them although they can be decoded.

    ``repeated`` lists the keys that an object of the last decoded value holds twice; ``not_finite``: whether it
    contains NaN, an infinite number, or one that is too large for a float. Such numbers become NaN or infinity.
    """

    def __init__(self) -> None:
        self.repeated: list[str] = []
        self.not_finite = False
        self._raw_decode = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=self._integer,
        ).raw_decode

    def decode(self, text: str, start: int = 0) -> tuple[Any, int]:
        """Return the value that begins at ``start``, and where it ends. Raises ValueError and RecursionError."""
        if self.repeated or self.not_finite:
            self.repeated, self.not_finite = [], False
        return self._raw_decode(text, start)

    def record(self, value: object, text: str) -> Record | Malformed:
        """Return the last decoded value if it is a usable record; ``text`` is the JSON text of that value."""
        if not isinstance(value, dict):
            return Malformed.at("not a JSON object", text)
        if self.repeated:
            return Malformed.at(f"two keys named {named(self.repeated[0])}", text)
        if not _is_plain(value):
            if text.count("[") + text.count("{") > _DEEPEST and _is_deep(value):
                return Malformed.at(f"nested more than {_DEEPEST} levels deep", text)
            if ("\\ud" in text or "\\uD" in text) and has_lone_surrogate(value):
                return Malformed.at("not valid Unicode", text)
        return finite(value) if self.not_finite else value

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(pairs)
        if len(record) != len(pairs):
            seen: set[str] = set()
            self.repeated.extend(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        return record

    def _constant(self, name: str) -> float:
        self.not_finite = True
        return float(name)

    def _float(self, text: str) -> float:
        value = float(text)
        if value - value:  # true only for infinity: the difference is NaN
            self.not_finite = True
        return value

    def _integer(self, text: str) -> float:
        if len(text) > _MOST_DIGITS:
            self.not_finite = True
            return math.inf
        return int(text)


def has_lone_surrogate(value: object) -> bool:
    """Return whether text contains half a surrogate pair: JSON escapes allow it, but tokenizers reject it."""
    return re.search("[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)) is not None


def _is_plain(record: Record) -> bool:
    """Return whether a record holds only numbers and ASCII text, as most do; then the checks below are not needed."""
    for key, value in record.items():
        if type(value) is str:
            if not value.isascii():
                return False
        elif type(value) not in _SCALARS:
            return False
        if not key.isascii():
            return False
    return True


def _is_deep(value: object) -> bool:
    level = [value]
    for _ in range(_DEEPEST):
        level = [part for parent in level for part in _parts(parent)]
        if not level:
            return False
    return True


def _parts(value: object) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
