"""The recognition of a file's format by its columns, and why a format was chosen."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from plaudit.data.formats.base import Column, Format, Kind, Record, has_value
from plaudit.data.formats.columns import carries_meaning, words
from plaudit.data.formats.nested import unread_values
from plaudit.data.formats.registry import FORMATS
from plaudit.data.readers.opening import named
from plaudit.errors import PlauditError

_MOST_LISTED = 30


@dataclass(frozen=True)
class Recognition:
    """A format, and the reason why it is the format of a file."""

    row_format: Format
    reason: str


def recognize(name: str, records: Sequence[Record], kind: Kind | None, source: str) -> Recognition:
    """Return the format called ``name``, or for "auto" the one that fits most of the records.

    ``records`` are a sample of a file. ``kind`` is the required kind of row; None means the richest. Raises
    PlauditError if the name is unknown, if no format or several formats fit, if the format does not support that kind,
    or if the file's judgements can be read in two ways.
    """
    found = _named(name, source) if name != "auto" else _recognized(records, kind, source)
    row_format = found.row_format
    if kind is not None and kind not in row_format.kinds:
        able = [other for other in all_formats() if kind in other.kinds]
        columns = _columns(records)
        raise PlauditError(
            f"{source}: format {row_format.name} ({found.reason}) gives {' or '.join(row_format.kind_names)} rows, but "
            f"{kind.kind} rows are needed; formats that give them: {closest(able, columns)}{_respelled(columns)}"
        )
    if row_format.settle is None:
        return found
    try:
        return replace(found, row_format=row_format.settle(row_format, records))
    except PlauditError as error:
        raise PlauditError(f"{source}: {error}") from error


def all_formats() -> list[Format]:
    """Return all registered formats."""
    return [FORMATS[name] for name in FORMATS]


def _named(name: str, source: str) -> Recognition:
    if name not in FORMATS:
        near = get_close_matches(name, FORMATS.names, n=1)
        hint = f"did you mean {near[0]}? or " if near else ""
        raise PlauditError(f"{source}: unknown format {name}; {hint}choose auto or one of {', '.join(FORMATS)}")
    return Recognition(FORMATS[name], "named in the configuration")


def _recognized(records: Sequence[Record], kind: Kind | None, source: str) -> Recognition:
    # An empty cell says as little as a missing one, unless formats that would do fit only with it.
    filled = [{name: value for name, value in record.items() if has_value(value)} for record in records]
    choices = [(each, _fitting(each, kind)) for each in (filled, records)]
    complete = [(each, fitting) for each, fitting in choices if not _must_be_refused(fitting, each, kind)]
    able = [(each, fitting) for each, fitting in choices if any(kind in (None, *one.kinds) for one in fitting)]
    records, fitting = [*complete, *able, choices[-1]][0]
    fitting = [each for each in fitting if not each.fallback] or fitting
    if not fitting:
        raise PlauditError(_no_format(records, source))
    best = _most_complete(fitting, records, kind)
    best = [known for known in best if not any(set(known.columns) < set(other.columns) for other in best)]
    richest = max((known.kinds[0] for known in best), key=lambda own: own.richness)
    wanted = kind or (richest if richest.richness else None)
    for preferred in (
        [known for known in best if known.kinds[0] == wanted],
        [known for known in best if wanted in known.kinds],
        best,
    ):
        most = max((len(known.columns) for known in preferred), default=0)
        needing_most = [known for known in preferred if len(known.columns) == most]
        if len(needing_most) == 1:
            reason = _reason(needing_most[0], fitting, records, kind)
            return Recognition(needing_most[0], reason + _respelled(_columns(records)))
    columns, names = _listed(_columns(records)), ", ".join(known.name for known in best)
    raise PlauditError(
        f"{source}: columns {columns} fit several formats ({names}); choose one with format: NAME, or name what is not "
        "to be read under `ignore_columns`"
    )


def _fitting(records: Sequence[Record], kind: Kind | None) -> list[Format]:
    known = [each for each in all_formats() if not each.on_request]
    fitting = [each for each in known if 2 * sum(map(each.fits, records)) > len(records)]
    if not fitting or _must_be_refused(fitting, records, kind):
        # Columns that most records leave empty also say what the file is; the records without them are bad.
        fitting = [each for each in known if each in fitting or _fits_complete(each, records)]
    return fitting


def _must_be_refused(fitting: Sequence[Format], records: Sequence[Record], kind: Kind | None) -> bool:
    """Return whether no format that fits gives the wanted rows and reads all that carries meaning."""
    able = [each for each in fitting if kind is None or kind in each.kinds]
    return all(_unread_with_meaning(each, records, kind) for each in able)


def _fits_complete(known: Format, records: Sequence[Record]) -> bool:
    """Return whether a format fits most of the records that have a value in all of its columns."""
    complete = list(filter(known.is_complete, records))
    fits = sum(map(known.fits, complete))
    return 2 * fits > len(complete) if known.columns else fits > 0


def _most_complete(formats: Sequence[Format], records: Sequence[Record], kind: Kind | None) -> list[Format]:
    """Return the formats of which no other one reads all that they read and more of what carries meaning."""
    unread = {known.name: _unread_with_meaning(known, records, kind) for known in formats}
    return [known for known in formats if not any(unread[other.name] < unread[known.name] for other in formats)]


def _unread_with_meaning(known: Format, records: Sequence[Record], kind: Kind | None) -> set[str]:
    unread = {column for record in records for column in unread_values(known, record, kind)}
    return {column for column in unread if carries_meaning(column, kind)}


def _reason(chosen: Format, fitting: Sequence[Format], records: Sequence[Record], kind: Kind | None) -> str:
    """Return which columns decided, and why other formats that fit were not chosen."""
    needed = sorted({column for record in records for column in record.keys() - chosen.others(record)})
    parts = [f"columns {', '.join(needed)}"]
    for other in fitting:
        if other is chosen:
            continue
        left = _unread_with_meaning(other, records, kind) - _unread_with_meaning(chosen, records, kind)
        why = f"would not read {', '.join(sorted(left))}" if left else f"gives {other.kind_names[0]} rows"
        parts.append(f"{other.name} {why}")
    return "; ".join(parts)


def _no_format(records: Sequence[Record], source: str) -> str:
    columns = _columns(records)
    return (
        f"{source}: no row format has the columns {_listed(columns)}; closest: {closest(all_formats(), columns)}; "
        f"rename columns with `columns`, or choose a format with `format`{_respelled(columns)}"
    )


def _respelled(columns: Sequence[str]) -> str:
    """Return which columns differ from the columns of formats only by case or by spaces around them, as a remedy."""
    names = {
        name.lower(): name for known in all_formats() for column in known.columns for name in _alternatives(column)
    }
    meant: dict[str, list[str]] = {}
    for column in columns:
        if (name := names.get(column.strip().lower())) is not None:
            meant.setdefault(name, []).append(column)
    renames = {own[0]: name for name, own in meant.items() if own != [name] and len(own) == 1}
    text = f"; only the spelling differs: `columns: {json.dumps(renames, ensure_ascii=False)}`" if renames else ""
    for name, own in meant.items():
        if len(own) > 1:
            text += f"; {', '.join(map(spaced, own))} may each be {name}: list all but one under `ignore_columns`"
    return text


def _alternatives(column: Column) -> tuple[str, ...]:
    return (column,) if isinstance(column, str) else column


def closest(formats: Sequence[Format], columns: Sequence[str]) -> str:
    """Return the formats with the most columns in common and the fewest missing, with both.

    A column such as ``chosen_text`` is nearly in common with ``chosen``: it raises the place of a format.
    """
    near = sorted(
        (known for known in formats if any(_likeness(column, columns) for column in known.columns)),
        key=lambda known: len(known.columns) - 2 * sum(_likeness(column, columns) for column in known.columns),
    )
    lacking = [known for known in near if not all(_likeness(column, columns) == 1 for column in known.columns)]
    return "; ".join(_nearness(known, columns) for known in (lacking or near)[:3]) or "none has a column in common"


def _nearness(known: Format, columns: Sequence[str]) -> str:
    names = [_alternatives(column) for column in known.columns]
    common = [name for alternatives in names for name in alternatives if name in columns]
    missing = [alternatives[0] for alternatives in names if not any(name in columns for name in alternatives)]
    needs = f"needs {', '.join(missing)}" if missing else "needs other values in them"
    return f"{known.name} has {', '.join(common)} in common and {needs}" if common else f"{known.name} {needs}"


def _likeness(column: Column, columns: Sequence[str]) -> float:
    """Return 1 if a column is there, and less if one with all words of its name is."""
    names = _alternatives(column)
    if any(name in columns for name in names):
        return 1
    return 0.9 if any(set(words(name)) <= set(words(other)) for name in names for other in columns) else 0


def _listed(columns: Sequence[str]) -> str:
    more = f" and {len(columns) - _MOST_LISTED} more" if len(columns) > _MOST_LISTED else ""
    return ", ".join(map(spaced, columns[:_MOST_LISTED])) + more


def spaced(column: str) -> str:
    """Return a name for a message, in quotation marks if it would not be seen whole."""
    return repr(named(column)) if column != column.strip() or not column else named(column)


def _columns(records: Sequence[Record]) -> list[str]:
    return sorted({column for record in records for column in record})
