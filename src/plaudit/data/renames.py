"""Renames the columns of records as a source asks for it, without ever losing one."""

from collections.abc import Iterator
from difflib import get_close_matches

from plaudit.config.schema import SourceConfig
from plaudit.data.readers import Malformed, Placed, Record
from plaudit.data.readers.opening import named
from plaudit.data.rows import Origin
from plaudit.errors import PlauditError


def renamed(placed: Iterator[Placed], source: SourceConfig) -> Iterator[Placed]:
    """Yield the records with the names of ``source.columns``.

    Raises PlauditError if two columns would have one name, and, after the last record, if a column to rename was in no
    record at all.
    """
    renames = source.columns
    if not renames:
        yield from placed
        return
    _check_targets(source)
    seen: set[str] = set()
    for origin, record in placed:
        if not isinstance(record, Malformed):
            seen.update(record)
            record = _renamed(record, source, origin)
        yield origin, record
    missing = next((column for column in renames if column not in seen), None)
    if missing is not None and seen:
        near = get_close_matches(missing, seen, n=1)
        hint = f"did you mean {named(near[0])}? " if near else ""
        raise PlauditError(
            f"{source.path}: `columns` renames {missing}, but no record has this column; {hint}"
            f"choose one of {', '.join(map(named, sorted(seen)))}"
        )


def _check_targets(source: SourceConfig) -> None:
    columns_of: dict[str, str] = {}
    for column, final in source.columns.items():
        if final in columns_of:
            raise PlauditError(
                f"{source.path}: `columns` renames both {columns_of[final]} and {column} to {final}; choose one"
            )
        columns_of[final] = column


def _renamed(record: Record, source: SourceConfig, origin: Origin) -> Record:
    result = {source.columns.get(column, column): value for column, value in record.items()}
    if len(result) != len(record):
        column, final = next(
            (column, final) for column, final in source.columns.items() if column in record and final in record
        )
        raise PlauditError(
            f"{origin.source} line {origin.line}: `columns` renames {column} to {final}, but the row also has a "
            f"column {final}; rename that one as well, such as {final}: {final}_before"
        )
    return result
