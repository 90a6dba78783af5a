"""Records of every format, damaged at random places, are read, counted as unused or rejected; nothing else happens."""

import copy
import random
from collections.abc import Iterator
from typing import Any

import pytest

from format_examples import EXAMPLES
from fuzzing.effort import cases
from plaudit.data.conversion import Conversion
from plaudit.data.formats import openai
from plaudit.data.formats.recognition import recognize
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import Origin
from plaudit.errors import PlauditError

ATOMS: list[Any] = [
    *(None, True, False, 0, 1, 2, -1, 0.0, 1.0, 1.5, -0.5, float("nan"), float("inf"), 10**400),
    *("", " ", "x", "CN", "assistant", "tie", "a", "b", "1", "0", "nan", "model_a"),
    *("[]", "{}", "[1]", '[{"a": 1}]', "[{'role': 'user', 'content': 'x'}]"),
    *('[["q", "a"]]', '{"name": "f"}'),
]
KEYS = ["text", "role", "content", "replies", "output", "value", "from", "winner", "rank", "score", "tool_calls"]
KEYS += ["function", "name", "arguments", "type", "selected", "status", "response", "overall_score", "weight"]


def junk(case: random.Random, depth: int = 0) -> Any:
    chance = case.random()
    if depth > 2 or chance < 0.6:
        return case.choice(ATOMS)
    if chance < 0.8:
        return [junk(case, depth + 1) for _ in range(case.randrange(4))]
    return {case.choice(KEYS): junk(case, depth + 1) for _ in range(case.randrange(4))}


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*before, key))


def damaged(case: random.Random, name: str) -> list[Any]:
    """Return the records of a format's example, once or twice, with one to three places changed or removed."""
    records = [copy.deepcopy(record) for _ in range(case.choice([1, 2])) for record in EXAMPLES[name]]
    for _ in range(case.choice([1, 1, 2, 3])):
        *path, last = case.choice([place for place in places(records) if len(place) > 1] or [(0, "text")])
        inner: Any = records
        for key in path:
            inner = inner[key]
        if case.random() < 0.15 and isinstance(inner, dict):
            inner.pop(last, None)
        else:
            inner[last] = junk(case)
    if case.random() < 0.2:
        other = case.choice(EXAMPLES[case.choice(list(EXAMPLES))])
        records = [{**other, **record} for record in records]
    return records


def test_damaged_records_of_every_format(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "gpt2_decoder", lambda: str)
    names, converted = list(EXAMPLES), 0
    for case in cases(1000):
        name = case.choice(names)
        records = damaged(case, name)
        for asked in ("auto", name):
            kind = case.choice([None, *FORMATS[name].kinds])
            try:
                row_format = recognize(asked, records, kind, "rows.jsonl").row_format
            except PlauditError:
                continue
            placed = ((Origin("rows.jsonl", line), record) for line, record in enumerate(records, 1))
            done = Conversion(placed, row_format, kind or row_format.kinds[0])
            rows = list(done)
            counted = done.used + done.without_row + len(done.rejects)
            assert counted == len(records) or row_format.group is not None, case.case
            assert all(text.strip() for row in rows for text in row.responses), case.case
            converted += 1
    assert converted > 0
