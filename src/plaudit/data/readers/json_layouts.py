"""Objects that hold records: under one key, as columns, or in a layout that pandas' ``to_json`` writes."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from plaudit.data.readers.base import Malformed, Numbered, finite
from plaudit.data.readers.opening import named
from plaudit.data.readers.strict_json import has_lone_surrogate
from plaudit.errors import PlauditError

KNOWN = "write one object per line, or a list of objects"

_SPLIT = {"columns", "index", "data"}
_INDEX = "index"
_DEEPEST = 5


def records(content: Mapping[str, Any], path: str, check_numbers: bool) -> Iterator[Numbered]:
    """Yield the records of an object with their number. Raises PlauditError if it has none or is ambiguous.

    Args:
        content: the object.
        path: the file, for messages.
        check_numbers: whether the object contains NaN or an infinite number.
    """
    for number, entry in enumerate(_entries(content, path), start=1):
        yield number, _checked(entry, check_numbers)


def _checked(entry: object, check_numbers: bool) -> "dict[str, Any] | Malformed":
    if isinstance(entry, Malformed):
        return entry
    if not isinstance(entry, dict):
        return Malformed.at("not a JSON object", str(entry))
    if has_lone_surrogate(entry):
        return Malformed.at("not valid Unicode", str(entry))
    return finite(entry) if check_numbers else entry


def _entries(content: Mapping[str, Any], path: str, level: int = 0) -> Iterator[object]:
    if _is_split(content):
        return _split(content["columns"], content["data"], path)
    if isinstance(content.get("schema"), dict) and isinstance(content.get("data"), list):
        return _table(content["schema"], content["data"])
    holders = {key: value for key, value in content.items() if _holds_objects(value)}
    if len(holders) > 1:
        keys = ", ".join(map(named, holders))
        raise PlauditError(f"{path}: lists of objects under several keys ({keys}); write one of them to its own file")
    if holders:
        entries = next(iter(holders.values()))
        return iter([content]) if _are_messages(entries) else iter(entries)
    if content and all(isinstance(value, list) for value in content.values()):
        return _columns_of_lists(content, path)
    objects = {key: value for key, value in content.items() if isinstance(value, dict)}
    if len(objects) == len(content) > 0:
        numbered_rows = all(map(_is_number, objects))
        numbered_columns = all(map(_is_number, chain.from_iterable(objects.values()))) and any(objects.values())
        if numbered_rows and not numbered_columns:
            return iter(objects.values())
        if numbered_columns and not numbered_rows:
            return _columns_of_objects(objects, path)
    if len(objects) == 1 and level < _DEEPEST:
        return _entries(next(iter(objects.values())), path, level + 1)
    raise PlauditError(f"{path}: expected a list of objects, found an object without one; {KNOWN}")


def _is_split(content: Mapping[str, Any]) -> bool:
    return {"columns", "data"} <= set(content) <= _SPLIT and all(isinstance(value, list) for value in content.values())


def _split(columns: list[Any], rows: list[Any], path: str) -> Iterator[object]:
    names = [str(name) for name in columns]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise PlauditError(f"{path}: two columns named {named(repeated)}; rename one")
    for row in rows:
        if isinstance(row, list) and len(row) == len(names):
            yield dict(zip(names, row, strict=True))
        else:
            yield Malformed.at("number of values differs from that of the columns", str(row))


def _table(schema: Mapping[str, Any], rows: list[Any]) -> Iterator[object]:
    """Yield the rows of pandas' "table" layout, without the numbers of the rows."""
    numbered = schema.get("primaryKey") == [_INDEX]
    for row in rows:
        yield {key: row[key] for key in row if key != _INDEX} if numbered and isinstance(row, dict) else row


def _columns_of_lists(columns: Mapping[str, list[Any]], path: str) -> Iterator[object]:
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        described = ", ".join(f"{named(name)} {length}" for name, length in lengths.items())
        raise PlauditError(f"{path}: columns of different lengths ({described}); {KNOWN}")
    return (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))


def _columns_of_objects(columns: Mapping[str, dict[str, Any]], path: str) -> Iterator[object]:
    rows = next(iter(columns.values())).keys()
    for name, values in columns.items():
        if values.keys() != rows:
            raise PlauditError(f"{path}: column {named(name)} does not have the rows of the others; {KNOWN}")
    return ({name: values[row] for name, values in columns.items()} for row in rows)


def _holds_objects(value: object) -> bool:
    return isinstance(value, list) and 2 * sum(isinstance(entry, dict) for entry in value) > len(value)


def _are_messages(entries: list[Any]) -> bool:
    return all(
        isinstance(entry, dict) and (("role" in entry and "content" in entry) or ("from" in entry and "value" in entry))
        for entry in entries
    )


def _is_number(key: str) -> bool:
    return key.isascii() and key.removeprefix("-").isdigit()
