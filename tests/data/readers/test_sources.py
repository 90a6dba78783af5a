"""Every kind of file gives the same records, and what cannot be read is one line with the path."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from numbered_records import numbered_records
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
    assert list(numbered_records(str(path))) == [(1, ROWS[0]), (2, ROWS[1])]


@pytest.mark.parametrize(
    "name, content, said",
    [
        ("missing.jsonl", None, "no such file"),
        ("empty.jsonl", b"", "the file is empty"),
        ("blank.jsonl", b"\n \n", "the file is empty"),
        ("empty.json", b"", "the file is empty"),
        ("empty.csv", b"", "the file is empty"),
        ("header.csv", b"a,b\n", "no rows after the header a, b"),
        ("rows.xlsx", b"hello", "unknown kind of file"),
        ("rows.json", b'[{"a": 1},\n {"a": }]', "line 2: malformed JSON"),
        ("rows.json", b'{"a": 1}', "expected a list of objects"),
        ("rows.json", b'"\xff"', "not valid UTF-8"),
        ("rows.jsonl.gz", b"\0no gzip", "damaged gzip"),
        ("cut.jsonl.gz", gzip.compress(b'{"a": 1}\n' * 50, mtime=0)[:-12], "damaged gzip"),
        ("rows.parquet", b"no parquet", "not a valid parquet file"),
    ],
)
def test_unusable_files_are_one_line_errors(tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(PlauditError) as caught:
        list(numbered_records(str(path)))
    assert said in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["subset", "files"])
def test_keys_of_hub_datasets_are_refused_for_a_file(tmp_path: Path, key: str) -> None:
    given: dict[str, Any] = {key: "en"}
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x"}\n')
    with pytest.raises(PlauditError) as caught:
        list(numbered_records(str(path), **given))
    assert str(path) in str(caught.value)
    assert f"remove {key}" in str(caught.value)


@pytest.mark.parametrize(
    "path, said",
    [
        ("a\0b.jsonl", "null"),
        ("a" * 300 + ".jsonl", "File name too long"),
        ("a" * 300, "File name too long"),
        ("rows.jsonl/more.jsonl", "Not a directory"),
    ],
)
def test_paths_that_the_system_refuses_are_one_line_errors(tmp_path: Path, path: str, said: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    for given in (path, str(tmp_path / path)):
        with pytest.raises(PlauditError) as caught:
            list(numbered_records(given))
        assert said in str(caught.value) or "no such file" in str(caught.value)
        assert "\0" not in str(caught.value)
        assert "\n" not in str(caught.value)


def test_control_characters_of_a_path_are_escaped_in_messages(tmp_path: Path) -> None:
    path = tmp_path / "a\n\x1bb.jsonl"
    path.write_text("")
    with pytest.raises(PlauditError, match=r"a\\n\\x1bb\.jsonl: the file is empty"):
        list(numbered_records(str(path)))


def test_final_names_reach_the_reader_but_do_not_rename(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n")
    assert list(numbered_records(str(path), final_names={"a": "prompt"})) == [(2, {"a": "1", "b": "2"})]
