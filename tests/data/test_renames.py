"""Renames never lose a column: every clash, and every column that is not there, is refused."""

import pytest

from plaudit.config.schema import SourceConfig
from plaudit.data.readers import Malformed, Numbered
from plaudit.data.renames import renamed
from plaudit.data.rows import Origin
from plaudit.errors import PlauditError


def _renamed(records: list[dict[str, int] | Malformed], columns: dict[str, str]) -> list[Numbered]:
    placed = ((Origin("rows.jsonl", line), record) for line, record in enumerate(records, start=3))
    found = renamed(placed, SourceConfig(path="rows.jsonl", columns=columns))
    return [(origin.line, record) for origin, record in found]


def test_columns_are_renamed_and_bad_records_pass() -> None:
    bad = Malformed("malformed JSON", "{")
    assert _renamed([{"a": 1, "b": 2}, bad], {"a": "prompt"}) == [(3, {"prompt": 1, "b": 2}), (4, bad)]
    assert _renamed([{"a": 1, "b": 2}], {"a": "b", "b": "a"}) == [(3, {"b": 1, "a": 2})]
    assert _renamed([{"a": 1}, {"b": 2}], {"a": "b"}) == [(3, {"b": 1}), (4, {"b": 2})]


@pytest.mark.parametrize(
    "columns, said",
    [
        ({"a": "b"}, "line 4: `columns` renames a to b, but the row also has a column b"),
        ({"a": "c", "b": "c"}, "renames both a and b to c"),
        ({"aa": "prompt"}, "renames aa, but no record has this column; did you mean a?"),
        ({"zzz": "b"}, "renames zzz, but no record has this column; choose one of a, b"),
    ],
)
def test_clashes_and_missing_columns_are_refused(columns: dict[str, str], said: str) -> None:
    with pytest.raises(PlauditError, match=r"^rows\.jsonl") as caught:
        _renamed([{"a": 1}, {"a": 1, "b": 2}], columns)
    assert said in str(caught.value)
