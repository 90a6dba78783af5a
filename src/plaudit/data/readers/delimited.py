"""CSV, TSV and other tables of text with a header, read strictly: no row may disappear in a cell of another one.

A quoted cell may contain line ends, so one wrong quotation mark can merge any number of rows into one cell. Rows are
therefore checked against RFC 4180 and against the lines of the file; see ``_RowCheck``.
"""

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice

from plaudit.data.readers.base import DataFile, Malformed, Numbered
from plaudit.data.readers.cells import CellTypes
from plaudit.data.readers.dialects import Dialect, find_dialect, quoted_row
from plaudit.data.readers.opening import named, shown
from plaudit.errors import PlauditError

_LONGEST_FIELD, _LONGEST_COLUMN_NAME, _MOST_COLUMNS = 2**30, 500, 10_000
# The types and shapes of cells are learned from this many rows.
_SAMPLE = 1000


@dataclass(frozen=True)
class _Row:
    """The fields of a row, with the number of its first line and the lines themselves."""

    number: int
    fields: list[str]
    lines: list[str]

    @property
    def text(self) -> str:
        """The unparsed text of the row."""
        return self.lines[0] if len(self.lines) == 1 else "".join(self.lines)

    @property
    def is_utf8(self) -> bool:
        """Whether the row was valid UTF-8: other bytes were read as surrogates."""
        return not _has_surrogate(self.text)


def read_csv(file: DataFile) -> Iterator[Numbered]:
    """Yield the rows of a table that is separated by commas, or else by tabs, semicolons or bars."""
    return _read(file, ",")


def read_tsv(file: DataFile) -> Iterator[Numbered]:
    """Yield the rows of a table that is separated by tabs, or else by commas, semicolons or bars."""
    return _read(file, "\t")


def _read(file: DataFile, usual: str) -> Iterator[Numbered]:
    csv.field_size_limit(_LONGEST_FIELD)
    dialect = find_dialect(file, usual)
    rows = _rows(file, dialect)
    header = next(rows, None)
    if header is None:
        return
    columns = header.fields
    _check_columns(file, columns)
    sample = list(islice(rows, _SAMPLE))
    if not sample:
        raise PlauditError(
            f"{shown(file.path)}: no rows after the header {', '.join(map(named, columns))}; add at least one row"
        )
    check = _RowCheck(dialect, len(columns), sample)
    types = CellTypes(columns, file.final_names, [row.fields for row in sample if check.reason(row) is None])
    for row in chain(sample, rows):
        reason = check.reason(row)
        if reason is not None:
            # How many rows were meant is unknown, so every line counts as one.
            for number, line in enumerate(row.lines, start=row.number):
                yield number, Malformed.at(reason, line.rstrip("\r\n"))
        elif not row.is_utf8:
            yield row.number, Malformed.at("not valid UTF-8", row.text)
        elif "\0" in row.text:
            yield row.number, Malformed.at("a zero byte", row.text)
        else:
            yield row.number, types.record(row.fields, row.text)


def _rows(file: DataFile, dialect: Dialect) -> Iterator[_Row]:
    """Yield the header and the rows that are not blank. Raises PlauditError if quotation marks do not match."""
    # Bytes that are not UTF-8 are kept as surrogates, so that the error can name their row.
    with file.open_utf8() as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", errors="surrogateescape", newline="")
        for _ in range(dialect.skipped_lines):
            text.readline()
        consumed: list[str] = []
        reader = dialect.reader(_remembered(text, consumed))
        number = 1 + dialect.skipped_lines
        while True:
            try:
                fields = next(reader)
            except StopIteration:
                break
            except csv.Error as error:
                raise PlauditError(
                    f"{shown(file.path)} line {number}: quotation marks do not match ({error}), so the rows from here "
                    "on are uncertain; double every quotation mark within a quoted cell, or write JSON lines"
                ) from error
            if any(consumed_line.strip("\r\n") for consumed_line in consumed):
                yield _Row(number, fields, consumed.copy())
            number += len(consumed)
            consumed.clear()
        stream.check_lines(number - 1, universal=True)


def _remembered(lines: Iterator[str], consumed: list[str]) -> Iterator[str]:
    for line in lines:
        consumed.append(line)
        yield line


def _has_surrogate(text: str) -> bool:
    """Return whether a text holds bytes that are not UTF-8, which were read as surrogates."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _check_columns(file: DataFile, columns: list[str]) -> None:
    if len(columns) > _MOST_COLUMNS:
        raise PlauditError(f"{shown(file.path)} line 1: {len(columns)} columns are too many; remove some")
    seen: set[str] = set()
    for column in columns:
        if "\0" in column or _has_surrogate(column):
            raise PlauditError(f"{shown(file.path)} line 1: the header is not text in UTF-8; save the file as UTF-8")
        if len(column) > _LONGEST_COLUMN_NAME:
            raise PlauditError(
                f"{shown(file.path)} line 1: {named(column)} is too long for the name of a column; add a header"
            )
        if column in seen:
            raise PlauditError(f"{shown(file.path)} line 1: two columns named {named(column)}; rename one")
        seen.add(column)


class _RowCheck:
    """Finds rows that are not what the writer meant.

    Two stray quotation marks can make one cell of whole rows, without a fault in the quoting. A row of several lines is
    therefore suspicious if its inner lines look like rows: they have as many fields, of lengths and beginnings as in
    the sample. Only rows without quotation marks can be swallowed in this way.
    """

    def __init__(self, dialect: Dialect, columns: int, sample: list[_Row]) -> None:
        self._columns, self._delimiter = columns, dialect.delimiter
        self._quoted_row = None if dialect.unquoted else quoted_row(dialect.delimiter)
        # Prose has a space or a line end after a comma.
        self._close_delimiter = re.compile(re.escape(dialect.delimiter) + r"(?![ \r\n])")
        plain = [row.fields for row in sample if len(row.fields) == columns and '"' not in row.text]
        self._shapes = [_Shape.of(column) for column in zip(*plain, strict=True)]

    def reason(self, row: _Row) -> str | None:
        """Return why the borders of a row or of its cells are uncertain; None if they are not."""
        if len(row.fields) != self._columns:
            return "number of fields differs from the header's"
        if len(row.lines) > 2 and self._shapes and self._holds_rows(row.lines):
            return "a quoted cell that contains whole rows"
        if self._quoted_row is not None and '"' in row.text and not self._quoted_row.fullmatch(row.text):
            return "a quotation mark within a cell that is not quoted"
        return None

    def _holds_rows(self, lines: list[str]) -> bool:
        run = longest = 0
        for line in lines[1:-1]:
            run = run + 1 if self._is_like_a_row(line) else 0
            longest = max(longest, run)
        # A single line with one comma is common in texts.
        return longest > 1 or (longest == 1 and (self._columns > 2 or self._have_delimiters_of_rows(lines)))

    def _is_like_a_row(self, line: str) -> bool:
        fields = [] if '"' in line else line.rstrip("\r\n").split(self._delimiter)
        return len(fields) == self._columns > 1 and all(
            shape.fits(field) for shape, field in zip(self._shapes, fields, strict=True)
        )

    def _have_delimiters_of_rows(self, lines: list[str]) -> bool:
        return all(len(self._close_delimiter.findall(line)) == self._columns - 1 for line in lines)


@dataclass(frozen=True)
class _Shape:
    """What the cells of a column look like: their lengths, with some play, and whether they begin with a space."""

    shortest: int
    longest: int
    begins_with_space: frozenset[bool]

    @classmethod
    def of(cls, cells: Sequence[str]) -> "_Shape":
        lengths = [len(cell) for cell in cells]
        return cls(-(-min(lengths) // 2), 2 * max(lengths) + 10, frozenset(cell.startswith(" ") for cell in cells))

    def fits(self, cell: str) -> bool:
        return self.shortest <= len(cell) <= self.longest and cell.startswith(" ") in self.begins_with_space
