"""Files are decompressed by content, damage is found wherever it is, and only regular files are opened."""

import bz2
import gzip
import lzma
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from numbered_records import numbered_records
from plaudit.data.readers.opening import COMPRESSIONS
from plaudit.data.readers.registry import READERS
from plaudit.errors import PlauditError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

TEXT = b"".join(b'{"a": %d}\n' % number for number in range(500))
ROWS = [(number + 1, {"a": number}) for number in range(500)]
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def _refused(path: Path) -> str:
    with pytest.raises(PlauditError) as caught:
        list(numbered_records(str(path)))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_compression_is_tested() -> None:
    assert list(COMPRESS) == list(COMPRESSIONS)


@pytest.mark.parametrize("ending", COMPRESS)
@pytest.mark.parametrize("name", ["rows.jsonl{}", "ROWS.JSONL{}", "rows.jsonl"])
def test_content_decides(tmp_path: Path, ending: str, name: str) -> None:
    path = tmp_path / name.format(ending)
    path.write_bytes(COMPRESS[ending](TEXT))
    assert list(numbered_records(str(path))) == ROWS


@pytest.mark.parametrize("ending", COMPRESS)
def test_plain_text_under_the_name_of_a_compressed_file_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    path.write_bytes(TEXT)
    assert list(numbered_records(str(path))) == ROWS
    path.write_text('{"a": "ä"}\n', encoding="utf-16")
    assert list(numbered_records(str(path))) == [(1, {"a": "ä"})]


@pytest.mark.parametrize("ending", COMPRESS)
def test_several_streams_in_a_row_are_read_whole(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](TEXT[:1000]) + COMPRESS[ending](b"") + COMPRESS[ending](TEXT[1000:]))
    assert list(numbered_records(str(path))) == ROWS


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    whole = COMPRESS[ending](TEXT)
    for length in range(1, len(whole), max(len(whole) // 60, 1)):
        path.write_bytes(whole[:length])
        assert "damaged" in _refused(path)
    path.write_bytes(b"")
    assert "the file is empty" in _refused(path)


@pytest.mark.parametrize("ending", COMPRESS)
def test_a_flipped_bit_anywhere_never_changes_rows(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    whole = COMPRESS[ending](TEXT)
    for place in range(0, len(whole), max(len(whole) // 120, 1)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            read = list(numbered_records(str(path)))
        except PlauditError as error:
            assert str(path) in str(error)  # noqa: PT017 - both outcomes are right
        else:
            assert read == ROWS


@pytest.mark.parametrize("ending", COMPRESS)
def test_garbage_after_the_end_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"rows.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](TEXT) + b"garbage" * 3)
    assert "damaged" in _refused(path)


@pytest.mark.parametrize(
    "content, said",
    [
        (b"PK\x03\x04....", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    ],
)
def test_known_other_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    assert said in _refused(path)


def test_pipes_devices_and_sockets_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jsonl")
    os.symlink("/dev/zero", tmp_path / "zeros.jsonl")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.jsonl"))
    for name, said in (("pipe", "pipe"), ("zeros", "device"), ("s", "socket")):
        assert f"this is a {said}" in _refused(tmp_path / f"{name}.jsonl")


def test_errors_of_the_system_are_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TEXT)

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in _refused(path)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(TEXT)
    reading = numbered_records(str(path))
    next(reading)
    with path.open("ab") as file:
        file.write(b'{"a": 500}\n')
    with pytest.raises(PlauditError, match="changed while it was read"):
        list(reading)


def test_an_unknown_ending_names_the_known_ones(tmp_path: Path) -> None:
    path = tmp_path / "rows.gz"
    path.write_bytes(gzip.compress(TEXT))
    message = _refused(path)
    assert all(ending in message for ending in (*READERS, *COMPRESSIONS))
