"""Files of every format and kind whose rows are known: examples with numbered texts, some of them changed."""

import copy
import csv
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from expected_rows import OWN_ROWS
from format_examples import EXAMPLES
from plaudit.data.rows import Message, Row

Record = dict[str, Any]

_IDENTITIES = {"dialogue_id", "message_id", "parent_id", "message_tree_id"}
_JUNK: tuple[Any, ...] = (
    *(None, "", " ", "nan", "x", 0, 1, 2, -1, 0.5, True, False, [], {}, [1], {"a": 1}, "[]", "{", '{"a": 1}'),
    *([{"role": "user", "content": "x"}], "[{'role': 'user', 'content': 'x'}]", "tie", "a", "1", [["q", "a"]]),
)


@dataclass
class Unit:
    """The records of one example in a file, and the rows that they must give; ``touched``: they were changed."""

    records: list[Record]
    rows: list[Row]
    touched: bool = False


def units(random: Random, name: str, number: int) -> list[Unit]:
    """Return examples of a format whose texts and identities are all different; about every fifth is changed."""
    made = []
    for mark in range(number):
        unit = _unit(name, f" no{mark}.")
        if random.random() < 0.2:
            for _ in range(random.randint(1, 2)):
                _change(random, unit)
        made.append(unit)
    return made


def _unit(name: str, mark: str) -> Unit:
    leaves = {text.strip() for record in EXAMPLES[name] for text in texts_of(record)}
    wanted = {text.strip() for row in OWN_ROWS[name] for text in row_texts(row)}
    shared = {
        text
        for text in leaves | wanted
        if len(text) > 4 and any(text in leaf for leaf in leaves) and any(text in other for other in wanted)
    }
    pattern = re.compile("|".join(map(re.escape, sorted(shared, key=len, reverse=True))))

    def numbered(value: Any, column: str = "") -> Any:
        if isinstance(value, str):
            return value + mark if column in _IDENTITIES else pattern.sub(lambda match: match[0] + mark, value)
        if isinstance(value, dict):
            return {key: numbered(inner, key) for key, inner in value.items()}
        if isinstance(value, Message):
            return Message(value.role, numbered(value.content), learned=value.learned)
        return type(value)(map(numbered, value)) if isinstance(value, list | tuple) else value

    rows = [
        type(row)(**{key: numbered(value) if key != "origin" else value for key, value in vars(row).items()})
        for row in OWN_ROWS[name]
    ]
    return Unit([numbered(record) for record in EXAMPLES[name]], rows)


def _change(random: Random, unit: Unit) -> None:
    unit.touched = True
    record = random.choice(unit.records)
    places = [place for place in _places(record) if place]
    *path, last = random.choice(places or [("text",)])
    inner: Any = record
    for key in path:
        inner = inner[key]
    kind = random.random()
    if kind < 0.6:
        inner[last] = copy.deepcopy(random.choice(_JUNK))
    elif kind < 0.75 and isinstance(inner, dict) and len(inner) > 1:
        del inner[last]
    elif kind < 0.9 and isinstance(inner, dict) and len(inner) > 1:
        other = random.choice([key for key in inner if key != last])
        inner[last], inner[other] = inner[other], inner[last]
    else:
        unit.records.insert(random.randrange(len(unit.records) + 1), copy.deepcopy(record))


def _places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _places(inner, (*before, key))


def texts_of(value: Any) -> Iterator[str]:
    """Yield every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from texts_of(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from texts_of(inner)


def atoms_of(value: Any) -> Iterator[str]:
    """Yield every text and number in a value, and lists and objects as JSON, as a table of text may hold them."""
    if isinstance(value, str):
        yield value
        return
    yield from (str(value), json.dumps(value))
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for inner in items:
        yield from atoms_of(inner)


def row_texts(row: Row) -> Iterator[str]:
    """Yield prompt and responses of a row; of a dialogue, the contents of its turns."""
    if isinstance(row.prompt, tuple):
        yield from (message.content for message in row.prompt if message.role != "tools")
    elif row.prompt is not None:
        yield row.prompt
    yield from row.responses


# Kinds of files -------------------------------------------------------------------------------------------------------


def _json_lines(records: list[Record]) -> bytes:
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode()


def _json_list(records: list[Record]) -> bytes:
    return json.dumps(records).encode()


def _table(delimiter: str) -> Callable[[list[Record]], bytes]:
    def write(records: list[Record]) -> bytes:
        columns = list(dict.fromkeys(column for record in records for column in record))
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows([[cell(record.get(column)) for column in columns] for record in records])
        return buffer.getvalue().encode()

    return write


def cell(value: Any) -> str:
    """Return a value as a cell of a table."""
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict) else str(value)


def _parquet(records: list[Record]) -> bytes:
    """Columns of one type each; a column of several types is written as JSON text."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    columns = list(dict.fromkeys(column for record in records for column in record))
    arrays = {}
    for column in columns:
        values = [record.get(column) for record in records]
        try:
            arrays[column] = pyarrow.array(values)
            pyarrow.parquet.write_table(pyarrow.table({column: arrays[column]}), io.BytesIO())
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, pyarrow.ArrowNotImplementedError):
            arrays[column] = pyarrow.array([None if value is None else cell(value) for value in values])
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(arrays), buffer)
    return buffer.getvalue()


WRITERS: dict[str, Callable[[list[Record]], bytes]] = {
    "rows.jsonl": _json_lines,
    "rows.json": _json_list,
    "rows.csv": _table(","),
    "rows.tsv": _table("\t"),
    "rows.parquet": _parquet,
}
"""How a file of each name is written."""
