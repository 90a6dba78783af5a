"""Finds out how a table of text is written: the delimiter, and whether quotation marks quote."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from plaudit.data.readers.base import DataFile

DELIMITERS = (",", "\t", ";", "|")

_SAMPLE_LINES = 200
_OUTNUMBERED = 10
# Excel writes the delimiter into a first line like this one.
_SEPARATOR_LINE = re.compile(r"sep=([,\t;|])\r?\n?", re.IGNORECASE)


@dataclass(frozen=True)
class Dialect:
    """How a table is written. ``unquoted``: quotation marks are ordinary characters."""

    delimiter: str
    unquoted: bool = False
    skipped_lines: int = 0

    def reader(self, lines: Iterable[str]) -> Iterator[list[str]]:
        """Return a strict reader of rows."""
        if self.unquoted:
            return csv.reader(lines, delimiter=self.delimiter, quoting=csv.QUOTE_NONE, strict=True)
        return csv.reader(lines, delimiter=self.delimiter, strict=True)


def quoted_row(delimiter: str) -> re.Pattern[str]:
    """Return the pattern of a row by RFC 4180: cells are quoted as a whole or contain no quotation mark."""
    mark = re.escape(delimiter)
    cell = rf'(?:"[^"]*+(?:""[^"]*+)*+"|[^"{mark}\r\n]*+)'
    return re.compile(rf"{cell}(?:{mark}{cell})*+(?:\r\n|\r|\n)?")


def find_dialect(file: DataFile, usual: str) -> Dialect:
    """Return how a file is written; ``usual`` is the delimiter by its name, which is preferred if it fits."""
    with file.open_utf8() as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="")
        sample = list(islice(lines, _SAMPLE_LINES))
    separator = _SEPARATOR_LINE.fullmatch(sample[0]) if sample else None
    if separator:
        return Dialect(separator[1], skipped_lines=1)
    delimiter = max((usual, *DELIMITERS), key=lambda candidate: _fitness(sample, candidate))
    return Dialect(delimiter, unquoted=delimiter == "\t" and _is_unquoted(file))


def _fitness(sample: list[str], delimiter: str) -> float:
    """Return the fraction of rows with as many fields as the header; 0 if the header has a single field."""
    columns, fitting, rows = 0, 0, 0
    try:
        for fields in csv.reader(sample, delimiter=delimiter, strict=True):
            if not columns:
                columns = len(fields)
            elif fields:
                rows += 1
                fitting += len(fields) == columns
    except csv.Error:
        pass  # the last row of the sample may be incomplete; other faults are found in the reading
    if columns < 2:
        return 0.0
    return fitting / rows if rows else 1.0


def _is_unquoted(file: DataFile) -> bool:
    """Return whether quotation marks in a table separated by tabs are ordinary characters.

    They are if every line has the header's number of tabs, and if lines that break the rules of quoting by far
    outnumber those whose quoted cells obey them. A few such lines are damage, which the reading reports.
    """
    pattern, tabs, breaking, obeying = quoted_row("\t"), -1, 0, 0
    with file.open_utf8() as stream:
        for line in io.TextIOWrapper(stream, encoding="utf-8", errors="replace", newline=""):
            if not line.strip("\r\n"):
                continue
            if tabs < 0:
                tabs = line.count("\t")
            if line.count("\t") != tabs:
                return False
            if '"' in line:
                obeys = pattern.fullmatch(line) is not None
                obeying, breaking = obeying + obeys, breaking + (not obeys)
    return breaking > _OUTNUMBERED * obeying
