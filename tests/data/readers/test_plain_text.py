"""Plain text: one record per line that is not blank."""

from pathlib import Path

import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed, plain_text
from plaudit.data.readers.base import DataFile


def test_lines_become_texts(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b'\xef\xbb\xbfOnce,\n \r\n "there" was\t \r\n{"a": 1}\n\xff\nA\x0bb\xe2\x80\xa8c')
    read = dict(numbered_records(str(path)))
    bad = read.pop(5)
    assert read == {
        1: {"text": "Once,"},
        3: {"text": ' "there" was\t '},
        4: {"text": '{"a": 1}'},
        6: {"text": "A\x0bb\u2028c"},
    }
    assert isinstance(bad, Malformed)
    assert bad.reason == "not valid UTF-8"


def test_zero_bytes_are_not_text(tmp_path: Path) -> None:
    path = tmp_path / "texts.txt"
    path.write_bytes(b"good\nb\0d\n")
    (_, good), (line, bad) = numbered_records(str(path))
    assert good == {"text": "good"}
    assert (line, isinstance(bad, Malformed) and bad.reason) == (2, "a zero byte")


@pytest.mark.parametrize("length", [8, 9, 10, 18, 19, 27, 28])
def test_a_line_that_is_too_long_is_malformed_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    monkeypatch.setattr(plain_text, "LONGEST_LINE", 9)
    path = tmp_path / "texts.txt"
    path.write_text("x" * length + "\nshort\n")
    (_, first), second = plain_text.read(DataFile(path, {}))
    assert isinstance(first, Malformed) == (length > 8)  # the line end counts
    assert second == (2, {"text": "short"})
    path.write_text("one\n" + "x" * length)
    (_, last) = list(plain_text.read(DataFile(path, {})))[1]
    assert isinstance(last, Malformed) == (length > 9)
