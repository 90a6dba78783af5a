"""Records come with their line, and whatever cannot be read says where and why."""

import csv
import gzip
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from plaudit.data.readers import Malformed, read_records
from plaudit.errors import PlauditError

ROWS = [{"prompt": "ä", "n": 1}, {"prompt": "two\nlines", "n": 2}]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    if path.name.endswith(".jsonl"):
        path.write_text(lines, encoding="utf-8")
    elif path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(lines.encode(), mtime=0))
    elif path.name.endswith(".json"):
        path.write_text(json.dumps(rows))
    elif path.name.endswith(".csv"):
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        import pyarrow as pa  # type: ignore[import-untyped]
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        pq.write_table(pa.Table.from_pylist(rows), path)


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "parquet"])
def test_every_kind_of_file_gives_the_same_records(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.{ending}"
    _write(path, ROWS)
    assert list(read_records(str(path))) == [(1, ROWS[0]), (2, ROWS[1])]


def test_csv_counts_lines_of_the_file_not_records(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    _write(path, [ROWS[1], ROWS[0]])
    assert list(read_records(str(path))) == [(2, {"prompt": "two\nlines", "n": "2"}), (4, {"prompt": "ä", "n": "1"})]


def test_json_may_hold_its_list_under_data(tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text(json.dumps({"version": 1, "data": ROWS}))
    assert [record for _, record in read_records(str(path))] == ROWS


def test_bad_lines_are_named_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": \n\n[1]\n{"a": "\xff"}\n{"a": "\\ud800"}\n{"a": "\\ud83d\\ude00"}\n')
    read = dict(read_records(str(path)))
    reasons = {line: record.reason for line, record in read.items() if isinstance(record, Malformed)}
    assert reasons == {2: "malformed JSON", 4: "not a JSON object", 5: "not valid UTF-8", 6: "not valid Unicode"}
    assert read[1] == {"a": 1}
    assert read[7] == {"a": "😀"}
    assert set(read) == {1, 2, 4, 5, 6, 7}


def test_bad_csv_rows_are_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"a,b\n1,2\n3\n\xff,4\n5,6\n")
    read = dict(read_records(str(path)))
    assert isinstance(read[3], Malformed)
    assert read[3].reason == "number of fields differs from the header's"
    assert isinstance(read[4], Malformed)
    assert read[4].reason == "not valid UTF-8"
    assert read[5] == {"a": "5", "b": "6"}


def test_long_csv_fields_are_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("text\n" + "x" * 200_000 + "\n")
    assert dict(read_records(str(path))) == {2: {"text": "x" * 200_000}}


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("missing.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "the file is empty"),
        ("blank.jsonl", b"\n \n", "the file is empty"),
        ("empty.json", b"", "the file is empty"),
        ("empty.csv", b"", "the file is empty"),
        ("header.csv", b"a,b\n", "the file is empty"),
        ("rows.txt", b"hello", "unknown kind of file"),
        ("rows.json", b'[{"a": 1},\n {"a": }]', "line 2: malformed JSON"),
        ("rows.json", b'{"a": 1}', "expected a list of objects"),
        ("rows.json", b'"\xff"', "not valid UTF-8 at byte 1"),
        ("rows.jsonl.gz", b"no gzip", "damaged gzip"),
        ("cut.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 50, mtime=0)[:-12], "damaged gzip"),
        ("rows.parquet", b"no parquet", "not a valid parquet file"),
    ],
)
def test_unusable_files_are_one_line_errors(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlauditError) as caught:
        list(read_records(str(path)))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_is_refused_as_a_file(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match="is a folder"):
        list(read_records(str(tmp_path)))


def test_hub_names_go_to_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load_dataset(name: str, subset: str | None, *, data_files: str | None, split: str) -> list[dict[str, Any]]:
        asked.append((name, subset, data_files, split))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert list(read_records("somebody/rows", "en", "test")) == [(1, ROWS[0]), (2, ROWS[1])]
    list(read_records("somebody/rows", files="data/test-*.parquet"))
    assert asked == [("somebody/rows", "en", None, "test"), ("somebody/rows", None, "data/test-*.parquet", "train")]


@pytest.mark.parametrize("key", ["subset", "files"])
def test_keys_of_hub_datasets_are_refused_for_a_file(tmp_path: Path, key: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(PlauditError) as caught:
        list(read_records(str(path), **{key: "en"}))
    assert str(path) in str(caught.value)
    assert f"remove {key}" in str(caught.value)


def test_a_hub_dataset_that_fails_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("cannot reach it\nat all")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(PlauditError, match=r"somebody/rows.*cannot reach it;") as caught:
        list(read_records("somebody/rows"))
    assert "\n" not in str(caught.value)
