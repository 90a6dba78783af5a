"""Reads a source completely: its rows of the required kind, its bad records, and their counts."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Generic, TypeVar, cast

from plaudit.config.schema import SourceConfig
from plaudit.data.conversion import LONGEST_EXCERPT, Conversion, Reject
from plaudit.data.formats.base import Format, Record, has_value
from plaudit.data.formats.nested import IgnoredColumns
from plaudit.data.formats.recognition import recognize
from plaudit.data.readers import Malformed, Meter, Placed, read_records
from plaudit.data.readers.sources import file_names
from plaudit.data.renames import renamed
from plaudit.data.rows import Origin, PromptRow, Row
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
    ``unread_examples`` has such values, and ``unread_is_kept`` says whether prompts carry these columns along for
    reward functions. ``reason`` says why the format was chosen, ``verdicts`` which responses were taken as better in
    the first rankings, and ``warnings`` what is suspicious about them.
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
    unread_is_kept: bool = False
    reason: str = ""
    verdicts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def unread_title(self) -> str:
        """What is true of the columns in ``unread``."""
        return "columns kept as `fields` for reward functions" if self.unread_is_kept else "columns not read"

    @property
    def bad_records(self) -> int:
        """Number of bad records over all reasons."""
        return sum(self.bad.values())


class SourceReading(Generic[R]):
    """A source whose format has been recognized; iterating over it yields its rows of one kind, once.

    ``files`` maps the sources that origins name to their numbers. ``meter`` says how much of the files has been read.
    Rows, bad records and counts are those up to the last row that was taken.
    """

    def __init__(self, source: SourceConfig, kind: type[R] | None = None, most_rejects: int | None = None) -> None:
        """Recognize the format; ``kind`` None means its native kind.

        Of more than ``most_rejects`` bad records between two calls of ``new_rejects``, the later ones are only counted.
        Raises PlauditError for a source that cannot be read at all; iterating raises it for damage further on.
        """
        self.source, self._config = source.path, source
        self.meter = Meter()
        self.files = {name: number for number, name in enumerate(file_names(source.path))}
        recognized = recognize(source.format, _sample(source), kind, source.path)
        self.row_format = recognized.row_format
        self.kind: type[R] = kind or cast("type[R]", self.row_format.kinds[0])
        self._reason = recognized.reason
        self._bad: Counter[str] = Counter()
        self._most_rejects = most_rejects
        self._rows = 0
        self._conversion = Conversion(self._good_records(), self.row_format, self.kind, source.ignore_columns)

    @property
    def fraction(self) -> float | None:
        """What fraction of the source has been read, by the size of its files or its limit; None if unknown."""
        done, limit = self._conversion, self._config.limit
        if limit is None:
            return self.meter.fraction
        records = done.used + done.without_row + self._bad.total() + len(done.rejects)
        return max(self.meter.fraction or 0.0, min(records / limit, 1.0))

    def __iter__(self) -> Iterator[R]:
        for row in self._conversion:
            self._rows += 1
            yield row

    @property
    def record(self) -> Record:
        """The record of the last row that was taken, with all of its columns."""
        return self._conversion.record

    def new_rejects(self) -> list[Reject]:
        """Return the bad records since the last call, in the order of files and lines."""
        found = sorted(
            self._conversion.rejects, key=lambda reject: (self.files[reject.origin.source], reject.origin.line)
        )
        self._bad.update(reject.reason for reject in found)
        self._conversion.rejects.clear()
        return found

    def counts(self) -> SourceCounts:
        """Return the counts, with the bad records that ``new_rejects`` has returned."""
        done = self._conversion
        warning = done.positions.warning()
        return SourceCounts(
            source=self.source,
            format=self.row_format.name,
            records=done.used + done.without_row + self._bad.total(),
            rows=self._rows,
            bad=dict(self._bad),
            unused=dict(done.unused),
            used=done.used,
            without_row=done.without_row,
            unread=dict(sorted(done.unread.items())),
            unread_examples=dict(done.examples),
            unread_is_kept=self.kind is PromptRow and self.row_format.group is None,
            reason=self._reason,
            verdicts=[f"{origin.within(self.source)}: {said}" for origin, said in done.verdicts],
            warnings=[warning] if warning else [],
        )

    def _good_records(self) -> Iterator[tuple[Origin, Record]]:
        rejects, most = self._conversion.rejects, self._most_rejects
        for origin, record in _records(self._config, self.meter):
            if most is not None and len(rejects) > most:
                self._bad.update(reject.reason for reject in rejects[most:])
                del rejects[most:]
            if isinstance(record, Malformed):
                rejects.append(Reject(origin, record.reason, record.excerpt[:LONGEST_EXCERPT]))
                continue
            yield origin, record
        if not_found := sorted(self._conversion.ignored.not_found):
            raise PlauditError(
                f"{self.source}: `ignore_columns` names {', '.join(not_found)}, but no row has it; remove it"
            )


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
    reading = SourceReading(source, kind)
    rows = list(reading)
    rejects = reading.new_rejects()
    return SourceRows(rows, rejects, reading.counts(), reading.row_format, reading.kind)


def _records(source: SourceConfig, meter: Meter | None = None) -> Iterator[Placed]:
    hub = {name: getattr(source, name) for name in ("subset", "split", "files", "revision", "streaming")}
    read = read_records(source.path, **hub, final_names=source.columns, meter=meter)
    return renamed(islice(read, source.limit), source)


def _sample(source: SourceConfig) -> list[Record]:
    """Return the first records, and of those that follow the first ones in which other columns have a value.

    Raises PlauditError if all records of the source are malformed.
    """
    sample: list[Record] = []
    ignored = IgnoredColumns(source.ignore_columns)
    found: Counter[tuple[str, ...]] = Counter()
    first: tuple[Origin, Malformed] | None = None
    for origin, record in _records(source):
        if isinstance(record, Malformed):
            first = first or (origin, record)
            continue
        filled = tuple(name for name, value in record.items() if has_value(value))
        if found[filled] < _SAMPLE and len(sample) < 10 * _SAMPLE:
            sample.append(ignored.without(record))
        found[filled] += 1
        if found.total() == _SEARCHED:
            break
    if not sample and first is not None:
        origin, bad = first
        raise PlauditError(
            f"{origin.source}: all records are bad; the first, line {origin.line}: {bad.reason}; correct the file"
        )
    return sample
