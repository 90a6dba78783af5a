"""Compares what a reader returned with what was written: every row is read once, rejected at its line, or refused."""

import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fuzzing.writers import Written

Outcome = tuple[int, "dict[str, Any] | None"]
"""A line or number with the record there; None for a rejected one."""

_ENDS, _UNIVERSAL_ENDS = re.compile("\n"), re.compile("\r\n|\r|\n")


def check_refusal(error: Exception, path: Path) -> None:
    """A refusal is one line that names the file."""
    message = str(error)
    assert str(path) in message, message
    assert "\n" not in message, message


def check_without_rows(file: Written, error: Exception) -> None:
    """A file in which single lines can be rejected is only refused if no line is left."""
    # A zero byte among the first makes the file one of UTF-16.
    assert not file.content.strip() or b"\0" in file.content[:4], error


def check_complete(file: Written, outcomes: Sequence[Outcome]) -> None:
    """Everything of an undamaged file was read, in order and with its place."""
    assert [record for _, record in outcomes] == file.records
    if file.by_line:
        places = [line for line, piece in zip(_lines(file), file.pieces, strict=True) if piece.record is not None]
    else:
        places = list(range(1, len(file.records) + 1))
    assert [place for place, _ in outcomes] == places


def check_accounted(file: Written, outcomes: Sequence[Outcome]) -> None:
    """Every row that damage did not touch was read once, or was rejected at its line; and nothing was made up."""
    places = [place for place, _ in outcomes]
    assert places == sorted(set(places)), "places are not in order"
    if file.by_line:
        _check_lines(file, dict(outcomes))
    else:
        _check_numbers(file, [record for _, record in outcomes if record is not None])


def _check_lines(file: Written, outcomes: dict[int, dict[str, Any] | None]) -> None:
    lines = _lines(file)
    lost = 0
    after = [*lines[1:], sys.maxsize]
    for piece, start, end in zip(file.pieces, lines, after, strict=True):
        if piece.touched or piece.record is None:
            continue
        here = {line: record for line, record in outcomes.items() if start <= line < max(end, start + 1)}
        read = {line: record for line, record in here.items() if record is not None}
        if read:
            assert read == {start: piece.record}, f"{piece.record} of line {start} was read as {read}"
        # One row between stray quotation marks cannot be told from a line of a text, but two rows can.
        lost = 0 if here else lost + 1
        assert lost <= file.universal, f"{piece.record} of line {start} was neither read nor rejected"


def _check_numbers(file: Written, records: Sequence[dict[str, Any]]) -> None:
    """Numbers shift where damage splits or joins rows, so rows are told apart by their texts."""
    read = Counter(map(repr, records))
    for piece in file.pieces:
        if piece.record is not None and not piece.touched:
            assert read[repr(piece.record)] == 1, f"{piece.record} was read {read[repr(piece.record)]} times"
    touched = sum(piece.touched for piece in file.pieces)
    expected = len(file.records)
    assert touched or len(records) == expected, f"{len(records)} of {expected} rows were read"


def _lines(file: Written) -> list[int]:
    """Return the first line of every piece."""
    encoding = file.encoding.removesuffix("-sig")
    ends = _UNIVERSAL_ENDS if file.universal else _ENDS
    lines, content = [], b""
    for piece in file.pieces:
        lines.append(1 + len(ends.findall(content.decode(encoding, errors="replace"))))
        content += piece.content
    return lines
