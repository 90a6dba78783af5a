"""Converts the records of a source into rows, and accounts for every record and every column."""

import json
import math
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from plaudit.data.formats.base import BadRowError, Format, Record, Unused
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


@dataclass
class Converted(Generic[R]):
    """The rows of a source, and what became of its records.

    Every record is counted once: in ``used`` if it gave rows, in ``without_row`` if all its parts were unused, or in
    ``rejects``. ``unread`` counts, by column, the records with a value that the format does not read; ``examples`` has
    such values. ``verdicts`` says which responses were taken as better in the first rankings.
    """

    rows: list[R] = field(default_factory=list)
    rejects: list[Reject] = field(default_factory=list)
    used: int = 0
    without_row: int = 0
    unused: Counter[str] = field(default_factory=Counter)
    unread: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)
    verdicts: list[str] = field(default_factory=list)
    positions: Positions = field(default_factory=Positions)


def convert_records(
    records: Iterable[tuple[int, Record]],
    path: str,
    row_format: Format,
    kind: type[R],
    ignored: Collection[str] = (),
) -> Converted[R]:
    """Convert records, given with their line numbers.

    The format does not see ``ignored`` columns, but prompts carry them along.
    """
    done: Converted[R] = Converted()
    if row_format.group is None:
        for line, record in records:
            visible = _visible(record, ignored)
            _count_unread(visible, row_format, done)
            _convert(visible, record, Origin(path, line), row_format, kind, done)
        return done
    seen = ((line, _visible(record, ignored)) for line, record in records)
    for line, record in row_format.group(_counting(seen, row_format, done)):
        _convert(record, record, Origin(path, line), row_format, kind, done)
    return done


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


def _visible(record: Record, ignored: Collection[str]) -> Record:
    return {name: value for name, value in record.items() if name not in ignored} if ignored else record


def _counting(
    records: Iterable[tuple[int, Record]], row_format: Format, done: Converted[R]
) -> Iterator[tuple[int, Record]]:
    for line, record in records:
        _count_unread(record, row_format, done)
        yield line, record


def _count_unread(record: Record, row_format: Format, done: Converted[R]) -> None:
    for column in row_format.unread(record):
        if column not in done.unread:
            done.examples[column] = shown(record[column])
        done.unread[column] += 1


def _convert(
    record: Record, complete: Record, origin: Origin, row_format: Format, kind: type[R], done: Converted[R]
) -> None:
    try:
        if row_format.group is None and (missing := row_format.missing(record)) is not None:
            raise BadRowError(f"{missing} is missing")
        # Convert the whole record before adding anything: a record with a bad part yields no rows.
        parts = list(row_format.convert(record, origin, kind))
        rows = [_as_kind(part, kind, record, complete, row_format) for part in parts if not isinstance(part, Unused)]
    except BadRowError as bad:
        done.rejects.append(Reject(origin, str(bad), excerpt(complete)))
        return
    except Exception as error:
        error.add_note(f"raised by format {row_format.name} for {origin.source} line {origin.line}")
        raise
    for part in parts:
        if isinstance(part, Unused):
            done.unused[part.reason] += 1
        elif isinstance(part, RankingRow):
            _judge(part, record, row_format, done)
    ranked = sum(len(part.responses) for part in parts if isinstance(part, RankingRow))
    labeled = sum(len(row.responses) for row in rows if isinstance(row, LabeledRow))
    if kind is LabeledRow and ranked > labeled:
        done.unused["response with as many better as worse ones, which gets no label"] += ranked - labeled
    done.rows += rows
    if rows:
        done.used += 1
    else:
        done.without_row += 1


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


def _judge(row: RankingRow, record: Record, row_format: Format, done: Converted[Any]) -> None:
    """Count where the better response stands, and say in words which one it is in the first rankings."""
    if row_format.unordered:
        done.positions.add(row)
    if len(done.verdicts) < _SHOWN_VERDICTS:
        best, worst = row.ranks.index(0), row.ranks.index(max(row.ranks))
        judged = ", ".join(_judgements(record, row_format))
        done.verdicts.append(
            f"line {row.origin.line}: response {best + 1} of {len(row.ranks)} ({_quoted(row.responses[best])}) is "
            f"taken as better than response {worst + 1} ({_quoted(row.responses[worst])})"
            + (f"; {judged}" if judged else "")
        )


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
