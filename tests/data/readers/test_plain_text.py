"""Plain text: one record per line that is not blank."""

from pathlib import Path

from numbered_records import numbered_records
from plaudit.data.readers import Malformed


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
