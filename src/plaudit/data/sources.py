"""Reads a source completely: its rows of the required kind, its bad records, and their counts."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar, cast

from plaudit.config.schema import SourceConfig
from plaudit.data.conversion import LONGEST_EXCERPT, Reject, convert_records
from plaudit.data.formats.base import Format, Record, has_value
from plaudit.data.formats.recognition import recognize
from plaudit.data.readers import Malformed, read_records
from plaudit.data.renames import renamed
from plaudit.data.rows import Origin, Row
from plaudit.errors import PlauditError

# A format is recognized by this many records with the same columns empty, among the first ones.
_SAMPLE, _SEARCHED = 100, 20_000

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class SourceCounts:
    """The number of a source's records and rows.

    ``records`` counts lines or entries, or dialogues if the format groups lines; each is in ``used`` (it gave rows),
    ``without_row`` (valid, but it gave none) or ``bad``. ``bad`` counts by reason, and so does ``unused``, the parts of
    valid records that gave no row. ``unread`` counts, by column, the records with a value that was not read, and
    ``unread_examples`` has such values. ``reason`` says why the format was chosen, ``verdicts`` which responses were
    taken as better in the first rankings, and ``warnings`` what is suspicious about them.
    """

    source: str
    format: str
    records: int
    rows: int
    bad: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)
    used: int = 0
    without_row: int = 0
    unread: dict[str, int] = field(default_factory=dict)
    unread_examples: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    verdicts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

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
    read = read_records(source.path, source.subset, source.split, source.files, source.columns)
    numbered = list(renamed(islice(read, source.limit), source))
    rejects = [
        Reject(Origin(source.path, line), record.reason, record.excerpt[:LONGEST_EXCERPT])
        for line, record in numbered
        if isinstance(record, Malformed)
    ]
    records: list[tuple[int, Record]] = [
        (line, record) for line, record in numbered if not isinstance(record, Malformed)
    ]
    if not records:
        first = rejects[0]
        raise PlauditError(
            f"{source.path}: all records are bad; the first, line {first.origin.line}: {first.reason}; correct the file"
        )
    _check_ignored(source, records)
    recognized = recognize(source.format, _sample(records, source.ignore_columns), kind, source.path)
    row_format = recognized.row_format
    kind = kind or cast("type[R]", row_format.kinds[0])
    done = convert_records(records, source.path, row_format, kind, source.ignore_columns)
    rejects = sorted([*rejects, *done.rejects], key=lambda reject: reject.origin.line)
    warning = done.positions.warning()
    counts = SourceCounts(
        source=source.path,
        format=row_format.name,
        records=done.used + done.without_row + len(rejects),
        rows=len(done.rows),
        bad=dict(Counter(reject.reason for reject in rejects)),
        unused=dict(done.unused),
        used=done.used,
        without_row=done.without_row,
        unread=dict(sorted(done.unread.items())),
        unread_examples=done.examples,
        reason=recognized.reason,
        verdicts=done.verdicts,
        warnings=[warning] if warning else [],
    )
    return SourceRows(done.rows, rejects, counts, row_format, kind)


def _check_ignored(source: SourceConfig, records: Iterable[tuple[int, Record]]) -> None:
    missing = set(source.ignore_columns)
    for _, record in records:
        if not missing:
            return
        missing -= record.keys()
    if missing:
        raise PlauditError(
            f"{source.path}: `ignore_columns` names {', '.join(sorted(missing))}, but no row has it; remove it"
        )


def _sample(records: Iterable[tuple[int, Record]], ignored: Collection[str]) -> list[Record]:
    """Return the first records, and of those that follow the first ones in which other columns have a value."""
    sample: list[Record] = []
    found: Counter[tuple[str, ...]] = Counter()
    for _, record in islice(records, _SEARCHED):
        filled = tuple(name for name, value in record.items() if has_value(value))
        if found[filled] < _SAMPLE and len(sample) < 10 * _SAMPLE:
            found[filled] += 1
            sample.append({name: value for name, value in record.items() if name not in ignored})
    return sample
