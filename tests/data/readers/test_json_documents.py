"""JSON files: lists, JSON lines under this name, and the layouts that pandas and others write."""

import json
from pathlib import Path
from typing import Any

import pandas
import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed, json_documents
from plaudit.errors import PlauditError

ROWS = [{"prompt": "ä", "n": 1}, {"prompt": 'two\nlines, "x"', "n": 2}]
MESSAGES = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]


def _read(path: Path, text: str) -> list[Any]:
    path.write_text(text, encoding="utf-8")
    return [rec.reason if isinstance(rec, Malformed) else rec for _, rec in numbered_records(str(path))]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(ROWS),
        json.dumps(ROWS, indent=2),
        "\n" + json.dumps(ROWS) + "\n\n",
        "".join(json.dumps(row) + "\n" for row in ROWS),
        "\n" + "\r\n".join(json.dumps(row) for row in ROWS),
        json.dumps({"version": 1, "data": ROWS}),
        json.dumps({"rows": ROWS}, indent=1),
        json.dumps({"any key": {"at all": ROWS}}),
        json.dumps({"prompt": [row["prompt"] for row in ROWS], "n": [1, 2]}),
        *(
            pandas.DataFrame(ROWS).to_json(orient=orient)
            for orient in ("records", "split", "columns", "index", "table")
        ),
        pandas.DataFrame(ROWS).to_json(orient="records", lines=True),
    ],
)
def test_layouts(tmp_path: Path, text: str) -> None:
    assert _read(tmp_path / "rows.json", text) == ROWS


def test_pandas_numbers_of_rows_may_have_gaps(tmp_path: Path) -> None:
    frame = pandas.DataFrame([*ROWS, *ROWS])[1:3]
    for orient in ("split", "columns", "index", "table"):
        assert _read(tmp_path / "rows.json", frame.to_json(orient=orient)) == [ROWS[1], ROWS[0]]


def test_dialogues_are_not_taken_for_lists_of_rows(tmp_path: Path) -> None:
    one = {"messages": MESSAGES}
    assert _read(tmp_path / "rows.json", json.dumps(one)) == [one]
    assert _read(tmp_path / "rows.json", json.dumps({"messages": [MESSAGES, MESSAGES]})) == [one, one]
    assert _read(tmp_path / "rows.json", json.dumps(one) + "\n" + json.dumps(one)) == [one, one]


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"train": [{"a": 1}], "test": [{"a": 2}]}', "several keys (train, test)"),
        ('{"prompt": "x"}', "expected a list of objects"),
        ('{"a": [1, 2], "b": [1]}', "different lengths (a 2, b 1)"),
        ('{"a": {"0": 1, "1": 2}, "b": {"0": 1}}', "column b does not have the rows"),
        ('{"a": {"x": 1}, "b": {"x": 1}}', "expected a list of objects"),
        ('{"columns": ["a", "a"], "data": [[1, 2]]}', "two columns named a"),
        ('{"a": [1], "a": [2]}', "two keys named a"),
        ('[{"a": 1}\n{"a": 2}]', "line 2: malformed JSON"),
        ('[{"a": 1},\n\n{"a": "unclosed}]', "line 3: malformed JSON"),
        ('[{"a": 1}, {"a"', "line 1: malformed JSON"),
        ('[{"a": 1},\n', "malformed JSON"),
        ('[{"a": 1}]\n[{"a": 1}]', "line 2: malformed JSON"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 100_000, "nested too deeply"),
        ("17", "expected a list of objects"),
    ],
)
def test_other_documents_are_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(PlauditError) as caught:
        _read(tmp_path / "rows.json", text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bad_entries_are_named(tmp_path: Path) -> None:
    text = '[{"a": 1}, 5, {"a": 1, "a": 2}, {"a": NaN}, {"a": "\\ud800"}, {"a": 2}]'
    reasons = ["not a JSON object", "two keys named a", "NaN or an infinite number in a", "not valid Unicode"]
    assert _read(tmp_path / "rows.json", text) == [{"a": 1}, *reasons, {"a": 2}]
    text = '{"data": [{"a": 1}, {"a": [1e999]}, {"a": 1}, 5]}'
    assert _read(tmp_path / "rows.json", text) == [{"a": 1}, reasons[2], {"a": 1}, reasons[0]]
    text = '{"columns": ["a", "b"], "index": [0, 1], "data": [[1, 2], [3]]}'
    assert _read(tmp_path / "rows.json", text)[1] == "number of values differs from that of the columns"


@pytest.mark.parametrize("chunk", [1, 2, 3, 7])
def test_a_list_is_read_in_pieces_of_any_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int) -> None:
    monkeypatch.setattr(json_documents, "_CHUNK", chunk)
    rows = [*ROWS, {"prompt": "\\ \\u00e4 😀", "n": -12.5e3}, {}, {"a": [True, False, None, [], {}]}]
    for indent in (None, 1):
        assert _read(tmp_path / "rows.json", json.dumps(rows, indent=indent)) == rows
    assert _read(tmp_path / "rows.json", "[12345, 67890]") == ["not a JSON object"] * 2
    with pytest.raises(PlauditError, match="line 3"):
        _read(tmp_path / "rows.json", '[{"a": 1},\n{"a": 2},\n{"a": tru}]')
