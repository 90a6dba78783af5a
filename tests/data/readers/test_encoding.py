"""UTF-16 and UTF-32 are recoded, byte order marks removed, and lines counted independently of the readers."""

import io
from pathlib import Path

import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed, encoding
from plaudit.data.readers.encoding import Utf8Stream
from plaudit.errors import PlauditError

ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"]
TEXT = '{"a": "ä 日本 😀"}\r\n\n{"a": "b"}'


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("chunk", [1, 3, 1 << 20])
def test_every_encoding_gives_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, chunk: int
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK", chunk)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TEXT.encode(name))
    assert list(numbered_records(str(path))) == [(1, {"a": "ä 日本 😀"}), (3, {"a": "b"})]


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize(
    "ending, text",
    [("csv", "a,b\nä,1\n"), ("tsv", "a\tb\nä\t1\n"), ("json", '[{"a": "ä", "b": "1"}]'), ("csv", "a;b\nä;1")],
)
def test_every_encoding_of_every_kind_of_text(tmp_path: Path, name: str, ending: str, text: str) -> None:
    path = tmp_path / f"rows.{ending}"
    path.write_bytes(text.encode(name))
    assert [record for _, record in numbered_records(str(path))] == [{"a": "ä", "b": "1"}]


def test_damaged_utf16_is_refused_or_rejected(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    whole = '{"a": 1}\n{"a": "x"}\n'.encode("utf-16")
    path.write_bytes(whole[:-1])
    with pytest.raises(PlauditError, match=r"rows.jsonl: not valid UTF-16 .*UTF-8"):
        list(numbered_records(str(path)))
    path.write_bytes(whole.replace("x".encode("utf-16-le"), b"\x00\xd8"))  # half of a surrogate pair
    (_, first), (line, second) = numbered_records(str(path))
    assert first == {"a": 1}
    assert (line, isinstance(second, Malformed) and second.reason) == (2, "not valid UTF-8")


@pytest.mark.parametrize(
    "content, lines, universal",
    [
        (b"", 0, 0),
        (b"a", 1, 1),
        (b"a\n", 1, 1),
        (b"a\r\nb\r\n", 2, 2),
        (b"a\rb", 1, 2),
        (b"a\rb\r", 1, 2),
        (b"\r\n\r\r\n\n\r", 4, 5),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 100])
def test_lines_are_counted(
    monkeypatch: pytest.MonkeyPatch, content: bytes, lines: int, universal: int, chunk: int
) -> None:
    monkeypatch.setattr(encoding, "_CHUNK", chunk)
    stream = Utf8Stream(Path("rows.jsonl"), io.BufferedReader(io.BytesIO(content)))
    assert stream.read() == content
    stream.check_lines(lines)
    stream.check_lines(universal, universal=True)
    with pytest.raises(PlauditError, match=rf"rows.jsonl: only {lines + 1} of {lines} lines"):
        stream.check_lines(lines + 1)
