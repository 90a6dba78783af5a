"""CSV, TSV and other tables of text with a header, read strictly: no row may disappear in a cell of another one.

A quoted cell may contain line ends, so one wrong quotation mark can merge any number of rows into one cell. Rows are
therefore checked against RFC 4180 and against the lines of the file; see ``_RowCheck``.
"""

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from plaudit.data.readers.base import DataFile, Malformed, Numbered
from plaudit.data.readers.cells import CellTypes
from plaudit.data.readers.dialects import Dialect, find_dialect, quoted_row
from plaudit.data.readers.opening import named, shown
from plaudit.errors import PlauditError

_LONGEST_FIELD = 2**30
# The types of cells and the use of spaces are decided by this many rows.
_SAMPLE = 1000
# With at least this many delimiters where rows have them, a cell of several lines almost certainly contains rows. Where
# delimiters are followed by a space, as commas are in prose, it takes more of them.
_DELIMITERS_OF_ROWS, _DELIMITERS_OF_SPACED_ROWS = 2, 6


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
        return self.text.isascii() or not any("\ud800" <= character <= "\udfff" for character in self.text)


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
        elif row.is_utf8:
            yield row.number, types.record(row.fields, row.text)
        else:
            yield row.number, Malformed.at("not valid UTF-8", row.text)


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


def _check_columns(file: DataFile, columns: list[str]) -> None:
    seen: set[str] = set()
    for column in columns:
        if column in seen:
            raise PlauditError(f"{shown(file.path)} line 1: two columns named {named(column)}; rename one")
        seen.add(column)


class _RowCheck:
    """Finds rows that are not what the writer meant.

    A row of several lines is suspicious if each of its lines has as many delimiters as a row: then a stray quotation
    mark at the start of a cell and another one at the end of a later cell have made one cell of whole rows.
    """

    def __init__(self, dialect: Dialect, columns: int, sample: list[_Row]) -> None:
        self._columns = columns
        self._quoted_row = None if dialect.unquoted else quoted_row(dialect.delimiter)
        spaced = sum(any(field.startswith(" ") for field in row.fields[1:]) for row in sample)
        # Prose has a space or a line end after a comma.
        after, self._enough = r"(?![ \r\n])", _DELIMITERS_OF_ROWS
        if 2 * spaced > len(sample):
            after, self._enough = r"(?![\r\n])", _DELIMITERS_OF_SPACED_ROWS
        self._delimiter = re.compile(re.escape(dialect.delimiter) + after)

    def reason(self, row: _Row) -> str | None:
        """Return why the borders of a row or of its cells are uncertain; None if they are not."""
        if len(row.fields) != self._columns:
            return "number of fields differs from the header's"
        if len(row.lines) > 1 and self._holds_rows(row.lines):
            return "a quoted cell that contains whole rows"
        if self._quoted_row is not None and '"' in row.text and not self._quoted_row.fullmatch(row.text):
            return "a quotation mark within a cell that is not quoted"
        return None

    def _holds_rows(self, lines: list[str]) -> bool:
        expected = self._columns - 1
        if (len(lines) - 1) * expected < self._enough:
            return False
        return all(len(self._delimiter.findall(line)) == expected for line in lines)
