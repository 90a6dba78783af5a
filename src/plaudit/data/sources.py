"""Reads a source completely: its rows of the required kind, its bad records, and their counts."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Generic, TypeVar, cast

from plaudit.config.schema import SourceConfig
from plaudit.data.formats.base import BadRowError, Format, Record, Unused
from plaudit.data.formats.registry import choose_format
from plaudit.data.readers import Malformed, read_records
from plaudit.data.rows import Origin, PromptRow, Row
from plaudit.errors import PlauditError

_SAMPLE_FOR_RECOGNITION = 100
_LONGEST_EXCERPT = 500

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Reject:
    """A bad record: its origin, the reason, and its beginning."""

    origin: Origin
    reason: str
    excerpt: str


@dataclass(frozen=True)
class SourceCounts:
    """The number of a source's records and rows.

    ``records`` counts lines or entries, or dialogues if the format groups lines. ``bad`` counts the records without a
    row, and ``unused`` the parts of valid records without a row, both by reason.
    """

    source: str
    format: str
    records: int
    rows: int
    bad: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)

    @property
    def bad_records(self) -> int:
        """Number of bad records over all reasons."""
        return sum(self.bad.values())


@dataclass(frozen=True)
class SourceRows(Generic[R]):
    """The rows of a source, its bad records, and the counts."""

    rows: list[R]
    rejects: list[Reject]
    counts: SourceCounts
    row_format: Format
    kind: type[R]


def read_source(source: SourceConfig, kind: type[R] | None = None) -> SourceRows[R]:
    """Read all rows of the required kind (None: the native kind of the format).

    Raises PlauditError for a source that cannot be read at all; bad records are returned, not raised.
    """
    numbered = list(islice(read_records(source.path, source.subset, source.split, source.files), source.limit))
    rejects = [
        Reject(Origin(source.path, line), record.reason, record.excerpt[:_LONGEST_EXCERPT])
        for line, record in numbered
        if isinstance(record, Malformed)
    ]
    records: list[tuple[int, Record]] = [
        (line, _renamed(record, source)) for line, record in numbered if not isinstance(record, Malformed)
    ]
    if not records:
        first = rejects[0]
        raise PlauditError(
            f"{source.path}: all records are bad; the first, line {first.origin.line}: {first.reason}; correct the file"
        )
    _check_renames(source, records)
    row_format = choose_format(source.format, _sample(records), kind, source.path)
    kind = kind or cast("type[R]", row_format.kinds[0])
    if row_format.group:
        records = list(row_format.group(records))
    parts, bad = _convert_all(records, source.path, row_format, kind)
    counted = len(records) + len(rejects)
    rejects = sorted([*rejects, *bad], key=lambda reject: reject.origin.line)
    rows = [part for part in parts if not isinstance(part, Unused)]
    reasons = Counter(reject.reason for reject in rejects)
    unused = Counter(part.reason for part in parts if isinstance(part, Unused))
    counts = SourceCounts(source.path, row_format.name, counted, len(rows), dict(reasons), dict(unused))
    return SourceRows(rows, rejects, counts, row_format, kind)


def _convert_all(
    records: Iterable[tuple[int, Record]], path: str, row_format: Format, kind: type[R]
) -> tuple[list[R | Unused], list[Reject]]:
    parts: list[R | Unused] = []
    rejects: list[Reject] = []
    for line, record in records:
        origin = Origin(path, line)
        try:
            # Convert the whole record before adding anything: a record with a bad part yields no rows.
            parts.extend(list(_convert(record, origin, row_format, kind)))
        except BadRowError as bad:
            rejects.append(Reject(origin, str(bad), _excerpt(record)))
    return parts, rejects


def _convert(record: Record, origin: Origin, row_format: Format, kind: type[R]) -> Iterator[R | Unused]:
    missing = [] if row_format.group else [name for name in row_format.columns if record.get(name) is None]
    if missing:
        raise BadRowError(f"{missing[0]} is missing")
    for part in row_format.convert(record, origin, kind):
        yield part if isinstance(part, Unused) else _as_kind(part, kind, record, row_format)


def _as_kind(row: Row, kind: type[R], record: Record, row_format: Format) -> R:
    """Convert a row to the required kind; prompts also get the columns that the format does not use."""
    known = {*record} if row_format.group else {*row_format.columns, *row_format.also_reads}
    others = {name: record[name] for name in record if name not in known}
    if isinstance(row, PromptRow):
        row = replace(row, fields={**others, **row.fields})
    if isinstance(row, kind):
        return row
    simpler = row.as_kind(kind, others)
    if not isinstance(simpler, kind):
        raise TypeError(f"format {row_format.name} lists {kind.kind} rows, but gave a {row.kind} row")
    return simpler


def _renamed(record: Record, source: SourceConfig) -> Record:
    return {source.columns.get(column, column): value for column, value in record.items()}


def _check_renames(source: SourceConfig, records: Iterable[tuple[int, Record]]) -> None:
    seen = {column for _, record in records for column in record}
    for column, expected in source.columns.items():
        if expected not in seen:
            raise PlauditError(
                f"{source.path}: `columns` renames {column}, but no record has this column; "
                f"choose one of {', '.join(sorted(seen))}"
            )


def _sample(records: list[tuple[int, Record]]) -> list[Record]:
    return [record for _, record in records[:_SAMPLE_FOR_RECOGNITION]]


def _excerpt(record: Record) -> str:
    return json.dumps(record, ensure_ascii=False, default=str)[:_LONGEST_EXCERPT]
