"""JSON lines: bad lines are named with their reason, and all others are read."""

from pathlib import Path

import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed


def _read(path: Path) -> dict[int, object]:
    return {line: rec.reason if isinstance(rec, Malformed) else rec for line, rec in numbered_records(str(path))}


def test_bad_lines_are_named_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": \n\n[1]\n{"a": "\xff"}\n{"a": "\\ud800"}\n{"a": "\\ud83d\\ude00"}\n')
    assert _read(path) == {
        1: {"a": 1},
        2: "malformed JSON",
        4: "not a JSON object",
        5: "not valid UTF-8",
        6: "not valid Unicode",
        7: {"a": "😀"},
    }


@pytest.mark.parametrize(
    "line, reason",
    [
        ('{"a": 1, "b": 2, "a": 3}', "two keys named a"),
        ('{"a": {"b": 1, "b": 1}}', "two keys named b"),
        ('{"a": 1, "score": NaN}', "NaN or an infinite number in score"),
        ('{"a": 1, "score": [1, -Infinity]}', "NaN or an infinite number in score"),
        ('{"a": 1, "score": 1e999}', "NaN or an infinite number in score"),
        ('{"a": 1, "score": ' + "9" * 5000 + "}", "NaN or an infinite number in score"),
        ('{"a": ' + "[" * 250 + "]" * 250 + "}", "nested more than 200 levels deep"),
        ('{"a": ' * 250 + "1" + "}" * 250, "nested more than 200 levels deep"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
        ('{"a": 1} {"a": 2}', "malformed JSON"),
        ('{"\\ud800": 1}', "not valid Unicode"),
        ('{"a": ["x", {"b": "\\udc00"}]}', "not valid Unicode"),
        ("NaN", "not a JSON object"),
    ],
)
def test_what_python_reads_but_data_must_not_contain(tmp_path: Path, line: str, reason: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"a": 0}}\n{line}\n{{"a": 4}}\n')
    assert _read(path) == {1: {"a": 0}, 2: reason, 3: {"a": 4}}


def test_unusual_lines_that_are_right(tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    deep = "[" * 150 + "]" * 150
    path.write_bytes(b' {"a": 1} \r\n\t\n' + b"\xef\xbb\xbf" + b'{"a": "\xe2\x80\xa8"}\n' + f'{{"a": {deep}}}'.encode())
    read = _read(path)
    assert read[1] == {"a": 1}
    assert read[3] == {"a": "\u2028"}
    assert isinstance(read[4], dict)
    assert set(read) == {1, 3, 4}


def test_the_excerpt_shows_the_fault_at_the_end_of_a_long_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": "begin' + "x" * 5000 + '", "b": oops}\n')
    ((_, bad),) = numbered_records(str(path))
    assert isinstance(bad, Malformed)
    assert bad.excerpt.startswith('{"a": "begin')
    assert bad.excerpt.endswith("oops}")
    assert len(bad.excerpt) <= 500
