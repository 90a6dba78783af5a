"""What every reader yields and gets: records, malformed places, and the file to read."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plaudit.data.readers.encoding import Utf8Stream
from plaudit.data.readers.opening import DecompressedFile, named, open_decompressed

Record = dict[str, Any]
Numbered = tuple[int, "Record | Malformed"]

_LONGEST_EXCERPT = 500
_HEAD_OF_EXCERPT = 200
_BEFORE_FAULT = 150


@dataclass(frozen=True)
class Malformed:
    """A place in a file that does not hold a record: the reason, and the text there, shortened."""

    reason: str
    excerpt: str

    @classmethod
    def at(cls, reason: str, text: str, fault: int = 0) -> "Malformed":
        """Return one with the beginning of the text, and the text around the fault if that is further on."""
        text = text.strip().encode("utf-8", errors="replace").decode("utf-8")
        if len(text) > _LONGEST_EXCERPT and fault > _LONGEST_EXCERPT - _BEFORE_FAULT:
            room = _LONGEST_EXCERPT - _HEAD_OF_EXCERPT - len(" … ")
            start = max(min(fault - _BEFORE_FAULT, len(text) - room), 0)
            text = f"{text[:_HEAD_OF_EXCERPT]} … {text[start : start + room]}"
        return cls(reason, text[:_LONGEST_EXCERPT])


@dataclass
class Meter:
    """How many bytes of a source's files, as they are on disk, have been read, and how many there are."""

    total: int = 0
    read: int = 0

    @property
    def fraction(self) -> float | None:
        """What fraction has been read; None if the size is not known."""
        return min(self.read / self.total, 1.0) if self.total else None


@dataclass(frozen=True)
class DataFile:
    """A file to read.

    ``final_names`` maps the columns that will be renamed to their final names. ``meter`` counts what is read, after
    ``before`` bytes of earlier files.
    """

    path: Path
    final_names: Mapping[str, str]
    meter: Meter = field(default_factory=Meter)
    before: int = 0

    def open_bytes(self) -> DecompressedFile:
        """Return the decompressed bytes. Damage and system errors raise PlauditError, at any point of the reading."""
        return open_decompressed(self.path, self.at)

    def at(self, position: int) -> None:
        """Note that the file has been read up to a position, in bytes as they are on disk."""
        self.meter.read = self.before + position

    def open_utf8(self) -> Utf8Stream:
        """Return the decompressed text as UTF-8 without a byte order mark, with a count of its lines."""
        return Utf8Stream(self.path, self.open_bytes())


Reader = Callable[[DataFile], Iterator[Numbered]]
"""Yields the records of a file in order, one by one, with the line (or number) of each, counted from 1."""


def not_finite(value: object) -> bool:
    """Return whether a value is or contains NaN or an infinite number."""
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, Mapping):
        return any(map(not_finite, value.values()))
    return isinstance(value, list | tuple) and any(map(not_finite, value))


def finite(record: Record) -> Record | Malformed:
    """Return the record, or that one of its columns contains NaN or an infinite number."""
    for column, value in record.items():
        if not_finite(value):
            return Malformed.at(f"NaN or an infinite number in {named(column)}", str(record))
    return record
