"""Converts the records of a source into rows, and accounts for every record and every column."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from plaudit.data.formats.base import BadRowError, Format, Record, Unused
from plaudit.data.formats.nested import IgnoredColumns, unread_values
from plaudit.data.formats.values import shown
from plaudit.data.rows import LabeledRow, Origin, PromptRow, RankingRow, Row

LONGEST_EXCERPT = 500
_SHOWN_VERDICTS = 3
# A position of the better response that is less likely than this by chance is worth a warning.
_UNLIKELY = 0.05

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Reject:
    """A bad record: its origin, the reason, and its text, shortened."""

    origin: Origin
    reason: str
    excerpt: str


@dataclass
class Positions:
    """How often the first response is the better one, and how likely "always" or "never" would be by chance."""

    rows: int = 0
    first: int = 0
    _log_always: float = 0.0
    _log_never: float = 0.0

    def add(self, row: RankingRow) -> None:
        """Count a ranking."""
        best = row.ranks.count(0) / len(row.ranks)
        self.rows += 1
        self.first += row.ranks[0] == 0
        self._log_always += math.log(best)
        self._log_never += math.log(1 - best)

    def warning(self) -> str | None:
        """Return a warning if the first response is always or never the better one, and that is not chance."""
        limit, check = math.log(_UNLIKELY), "check that the judgement is read right"
        if self.rows and self.first == self.rows and self._log_always < limit:
            return f"the first response is the better one in all {self.rows} rows; {check}"
        if self.rows and self.first == 0 and self._log_never < limit:
            return f"the first response is the better one in none of {self.rows} rows; {check}"
        return None


class Conversion(Generic[R]):
    """The rows of a source, one by one, and what became of its records up to the last row that was taken.

    Every record is counted once: in ``used`` if it gave rows, in ``without_row`` if all its parts were unused, or in
    ``rejects``, which may be emptied. ``unread`` counts, by column, the records with a value that the format does not
    read, also by nested keys with a meaning (``metadata.label``); ``examples`` has such values. ``verdicts`` says which
    responses were taken as better in the first rankings.
    The format does not see ``ignored`` columns and nested keys, but prompts carry them along.
    """

    def __init__(
        self,
        records: Iterable[tuple[Origin, Record]],
        row_format: Format,
        kind: type[R],
        ignored: Collection[str] = (),
    ) -> None:
        self._records, self._format, self._kind = records, row_format, kind
        self.ignored = IgnoredColumns(ignored)
        self.rejects: list[Reject] = []
        self.used = self.without_row = 0
        self.unused: Counter[str] = Counter()
        self.unread: Counter[str] = Counter()
        self.examples: dict[str, str] = {}
        self.verdicts: list[tuple[Origin, str]] = []
        self.positions = Positions()
        self.record: Record = {}
        """The record of the last row that was taken, with the columns that the format does not see."""

    def __iter__(self) -> Iterator[R]:
        if self._format.group is None:
            for origin, record in self._records:
                visible = self.ignored.without(record)
                self._count_unread(visible)
                yield from self._convert(visible, record, origin)
            return
        seen = ((origin, self.ignored.without(record)) for origin, record in self._records)
        for origin, record in self._format.group(self._counting(seen)):
            yield from self._convert(record, record, origin)

    def _counting(self, records: Iterable[tuple[Origin, Record]]) -> Iterator[tuple[Origin, Record]]:
        for origin, record in records:
            self._count_unread(record)
            yield origin, record

    def _count_unread(self, record: Record) -> None:
        for column, value in unread_values(self._format, record, self._kind).items():
            if column not in self.unread:
                self.examples[column] = shown(value)
            self.unread[column] += 1

    def _convert(self, record: Record, complete: Record, origin: Origin) -> list[R]:
        """Return the rows of a record. The whole record comes first: one with a bad part yields no rows."""
        row_format, kind, self.record = self._format, self._kind, complete
        try:
            if row_format.group is None and (missing := row_format.missing(record)) is not None:
                raise BadRowError(f"{missing} is missing")
            parts = list(row_format.convert(record, origin, kind))
            rows = [
                _as_kind(part, kind, record, complete, row_format) for part in parts if not isinstance(part, Unused)
            ]
            if any(isinstance(row, RankingRow) and len(set(row.ranks)) < 2 for row in rows):
                raise BadRowError("all responses are tied")
        except BadRowError as bad:
            self.rejects.append(Reject(origin, str(bad), excerpt(complete)))
            return []
        except Exception as error:
            error.add_note(f"raised by format {row_format.name} for {origin.source} line {origin.line}")
            raise
        for part in parts:
            if isinstance(part, Unused):
                self.unused[part.reason] += 1
            elif isinstance(part, RankingRow) and kind is not PromptRow:
                self._judge(part, record)
        if kind is LabeledRow:
            ranked = sum(len(part.responses) for part in parts if isinstance(part, RankingRow))
            labeled = sum(len(row.responses) for row in rows if isinstance(row, LabeledRow))
            if ranked > labeled:
                self.unused["response with as many better as worse ones, which gets no label"] += ranked - labeled
        if rows:
            self.used += 1
        else:
            self.without_row += 1
        return rows

    def _judge(self, row: RankingRow, record: Record) -> None:
        """Count where the better response stands, and say in words which one it is in the first rankings."""
        if self._format.unordered:
            self.positions.add(row)
        if len(self.verdicts) < _SHOWN_VERDICTS:
            best, worst = row.ranks.index(0), row.ranks.index(max(row.ranks))
            judged = ", ".join(_judgements(record, self._format))
            said = (
                f"response {best + 1} of {len(row.ranks)} ({_quoted(row.responses[best])}) is "
                f"taken as better than response {worst + 1} ({_quoted(row.responses[worst])})"
                + (f"; {judged}" if judged else "")
            )
            self.verdicts.append((row.origin, said))


def excerpt(record: Record) -> str:
    """Return a record as JSON; if it is long, the beginning and the end of each value."""
    try:
        text = json.dumps(record, ensure_ascii=False, default=str)
        if len(text) <= LONGEST_EXCERPT:
            return text
        room = max(LONGEST_EXCERPT // len(record) - 20, 20)
        values = (_ends(json.dumps(value, ensure_ascii=False, default=str), room) for value in record.values())
    except (ValueError, RecursionError):
        # Numbers with thousands of digits and very deep values cannot be written as text.
        return f"a record with the columns {', '.join(record)}"[:LONGEST_EXCERPT]
    parts = (f"{json.dumps(name, ensure_ascii=False)}: {value}" for name, value in zip(record, values, strict=True))
    return _ends(f"{{{', '.join(parts)}}}", LONGEST_EXCERPT)


def _ends(text: str, length: int) -> str:
    """Return a text with a gap in its middle if it is longer than ``length``."""
    half = (length - len(" … ")) // 2
    return text if len(text) <= length else f"{text[:half]} … {text[-half:]}"


def _as_kind(row: Row, kind: type[R], record: Record, complete: Record, row_format: Format) -> R:
    """Convert a row to the required kind; prompts also get the columns that are not a part of them."""
    others: dict[str, Any] = {}
    if kind is PromptRow and row_format.group is None:
        unread = row_format.others(record) - set(row_format.ignores)
        others = {
            name: value
            for name, value in complete.items()
            if name in unread or name in row_format.answers or name not in record
        }
    if isinstance(row, PromptRow):
        row = replace(row, fields={**others, **row.fields})
    if isinstance(row, kind):
        return row
    simpler = row.as_kind(kind, others)
    if not isinstance(simpler, kind):
        raise TypeError(f"format {row_format.name} lists {kind.kind} rows, but gave a {row.kind} row")
    return simpler


def _judgements(record: Record, row_format: Format) -> Iterator[str]:
    """Yield what the columns say, unless the judgement is the name of a column or is inside of an object."""
    for name in row_format.judgement if row_format.unordered else ():
        value = record.get(name)
        if (
            value is not None
            and not isinstance(value, dict)
            and not (isinstance(value, list) and dict in map(type, value))
        ):
            yield f"{name} is {shown(value)}"


def _quoted(text: str) -> str:
    return json.dumps(shown(" ".join(text.split())), ensure_ascii=False)
