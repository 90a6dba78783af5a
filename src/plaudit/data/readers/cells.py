"""The types of cells in text tables, which contain only text: missing values, message lists, infinite numbers.

Types are decided per column, by the first rows, so that a text that happens to look like something else stays text.
"""

import ast
import io
import math
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from plaudit.data.readers.base import Malformed, Record, not_finite
from plaudit.data.readers.opening import named
from plaudit.data.readers.strict_json import StrictDecoder

# What pandas.read_csv takes for a missing value if it is the whole cell (its parameter ``na_values``), except the
# empty text.
_MISSING_TEXTS = "#N/A|#N/A N/A|#NA|-1.#IND|-1.#QNAN|-NaN|-nan|1.#IND|1.#QNAN|<NA>|N/A|NA|NULL|NaN|None|n/a|nan|null"
MISSING = frozenset(re.split(r"\|", _MISSING_TEXTS))

# Two values side by side, as numpy prints the elements of an array.
_SIDE_BY_SIDE = re.compile(r"""['"}\])]\s+['"{\[(]""")
_PARSED_SAMPLE = 100
_OPENING, _CLOSING = set("[{("), set("]})")


class CellTypes:
    """Turns the fields of rows into records.

    Args:
        columns: the header.
        final_names: columns that will be renamed -> their final names.
        sample: the fields of the first rows.
    """

    def __init__(self, columns: Sequence[str], final_names: Mapping[str, str], sample: Sequence[Sequence[str]]) -> None:
        self._columns = columns
        filled = [[cell for cell in column if cell] for column in zip(*sample, strict=True)]
        cells = [[cell for cell in column if cell not in MISSING] for column in filled]
        # A column that says hardly anything else says it as a text, and the formats refuse such texts by name: as a
        # column without values it would be overlooked when the format is recognized.
        self._never_missing = {
            columns[index]
            for index, (all_cells, others) in enumerate(zip(filled, cells, strict=True))
            if 2 * len(others) < len(all_cells)
        }
        self._lists = {index for index, column in enumerate(cells) if _are_lists(column)}
        self._numbers = {index for index, column in enumerate(cells) if _are_numbers(column)}

    def record(self, fields: Sequence[str], text: str) -> Record | Malformed:
        """Return the record of a row; ``text`` is the unparsed row."""
        record: Record = dict(zip(self._columns, fields, strict=True))
        if not MISSING.isdisjoint(fields):
            missing = {column for column, cell in record.items() if cell in MISSING} - self._never_missing
            record.update(dict.fromkeys(missing))
        for index in self._lists:
            column, cell = self._columns[index], fields[index]
            if not cell.strip() or record[column] is None:
                continue
            value = parse_list(cell)
            if value is None:
                return Malformed.at(f"{named(column)} is not a list as JSON, Python or numpy writes it", text)
            if not_finite(value):
                return Malformed.at(f"NaN or an infinite number in {named(column)}", text)
            record[column] = value
        for index in self._numbers:
            if _is_infinite(fields[index]):
                return Malformed.at(f"NaN or an infinite number in {named(self._columns[index])}", text)
        return record


def parse_list(cell: str) -> list[Any] | None:
    """Return the list in a cell that JSON, Python's ``repr`` or numpy's ``str`` wrote; None if there is none."""
    cell = cell.strip()
    if not cell.startswith(("[", "array(")):
        return None
    for parse in (_parse_json, _parse_python):
        value = parse(cell)
        if isinstance(value, list):
            return value
    return None


def _parse_json(text: str) -> Any:
    decoder = StrictDecoder()
    try:
        value, end = decoder.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if end == len(text) and not decoder.repeated else None


def _parse_python(text: str) -> Any:
    if not (text.startswith("array(") or _SIDE_BY_SIDE.search(text)):
        value = _evaluated(text)
        if value is not None:
            return value
    # Python would join texts side by side into one.
    try:
        return _evaluated(_with_commas(text))
    except (tokenize.TokenError, SyntaxError):
        return None


def _evaluated(text: str) -> Any:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return None
    return value if _is_plain(value) else None


def _is_plain(value: object) -> bool:
    """Return whether a value could also be JSON: no sets or bytes, and not the dots of a shortened array."""
    if isinstance(value, dict):
        return all(isinstance(key, str) for key in value) and all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float)


def _with_commas(text: str) -> str:
    """Return numpy's text of an array as a Python list: with commas, and without ``array(..., dtype=...)``."""
    parts: list[str] = []
    tokens = [
        token.string
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type not in (tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER, tokenize.INDENT, tokenize.DEDENT)
    ]
    index = 0
    while index < len(tokens):
        token = tokens[index]
        if token == "array" and tokens[index + 1 : index + 2] == ["("]:
            token, index = "(", index + 1
        elif tokens[index : index + 3] == [",", "dtype", "="]:
            index += 4
            continue
        if parts and _ends_value(parts[-1]) and (_begins_value(token) or token in "+-"):
            parts.append(",")
        parts.append(token)
        index += 1
    return " ".join(parts)


def _ends_value(token: str) -> bool:
    return token in _CLOSING or (_begins_value(token) and token not in _OPENING)


def _begins_value(token: str) -> bool:
    return token in _OPENING or token[0] in "'\"" or token[0].isalnum() or token[-1] in "'\""


def _are_lists(cells: Sequence[str]) -> bool:
    """Return whether most cells are lists of messages, or lists in the form of numpy, which is not ordinary text."""
    cells = cells[:_PARSED_SAMPLE]
    return _most(cells, lambda cell: cell.lstrip().startswith(("[", "array("))) and _most(cells, _is_list)


def _is_list(cell: str) -> bool:
    value = parse_list(cell)
    if not value:
        return False
    cell = cell.strip()
    return all(map(_is_message, value)) or value != (_parse_json(cell) or _evaluated(cell))


def _is_message(value: object) -> bool:
    return isinstance(value, dict) and (
        {"role", "content"} <= value.keys()
        or {"role", "tool_calls"} <= value.keys()
        or {"from", "value"} <= value.keys()
    )


def _are_numbers(cells: Sequence[str]) -> bool:
    return (
        bool(cells)
        and all(_number(cell) is not None for cell in cells)
        and any(not _is_infinite(cell) for cell in cells)
    )


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _is_infinite(cell: str) -> bool:
    number = _number(cell)
    return number is not None and not math.isfinite(number) and cell not in MISSING


def _most(cells: Sequence[str], holds: Callable[[str], bool]) -> bool:
    return 2 * sum(map(holds, cells)) > len(cells)
