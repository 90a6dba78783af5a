"""Opens data files: regular files only, decompressed by what they contain rather than by their name.

Everything that the operating system or a decompressor reports, at the opening or later, becomes a PlauditError.
"""

import bz2
import codecs
import gzip
import io
import lzma
import os
import stat
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from plaudit.errors import PlauditError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COMPRESSIONS = {".gz": "gzip", ".bz2": "bzip2", ".xz": "xz", ".zst": "zstd"}
"""Endings of compressed files, and the names of the compressions."""

_CHUNK = 1 << 18
_BUFFER = 1 << 20
_BEGINNING = 4096
_LONGEST_NAME, _LONGEST_HALF = 60, 250
_SPACES = "\t\n\v\f\r\u2028\u2029\u200b\u00a0\u3000"
_DAMAGE = (EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError)
_BEGINNINGS = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_OTHER_BEGINNINGS = {
    b"PK\x03\x04": "a zip archive; unpack it",
    b"7z\xbc\xaf": "a 7z archive; unpack it",
    b"\x04\x22\x4d\x18": "compressed with lz4; unpack it",
    b"version https://git-lfs": "a pointer of Git LFS instead of the data; run `git lfs pull`",
}
_SPECIAL_FILES: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "this is a folder, but a file is needed; name one in it"),
    (stat.S_ISFIFO, "this is a pipe; write its data to a file first"),
    (stat.S_ISSOCK, "this is a socket; write its data to a file first"),
    (stat.S_ISCHR, "this is a device; name a file"),
    (stat.S_ISBLK, "this is a device; name a file"),
)


class _Decompressor(Protocol):
    """One stream of bzip2, xz or zstd."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


def check_file(path: Path) -> None:
    """Raise PlauditError if there is no such file, or if it is not a regular file."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError as error:
        raise PlauditError(f"{shown(path)}: no such file; check the path") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the path
        raise unreadable(path, error) from error
    for is_special, what in _SPECIAL_FILES:
        if is_special(mode):
            raise PlauditError(f"{shown(path)}: {what}")


class DecompressedFile(io.BufferedReader):
    """The bytes of a file, decompressed; ``compression`` is the name of the compression that it had."""

    def __init__(self, contents: "_Contents") -> None:
        super().__init__(contents, _BUFFER)
        self.compression = contents.compression


def open_decompressed(path: Path, at: Callable[[int], None] = lambda position: None) -> DecompressedFile:
    """Return the bytes of a file, decompressed if it is compressed. Raises PlauditError, also while it is read.

    ``at`` is called again and again with the number of bytes that have been read from the disk.
    """
    check_file(path)
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        return DecompressedFile(_Contents(path, file, at))
    except BaseException:
        file.close()
        raise


def unreadable(path: Path, error: Exception) -> PlauditError:
    """Return the error for a file that the operating system does not let us read."""
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return PlauditError(f"{shown(path)}: cannot be read ({reason}); check the path and its permissions")


def shown(path: Path) -> str:
    """Return a path for messages: shortened, with escapes in place of control characters and what is not UTF-8."""
    text = str(path)
    if len(text) > 2 * _LONGEST_HALF:
        text = f"{text[:_LONGEST_HALF]}…{text[-_LONGEST_HALF:]}"
    return _printable(text)


def named(column: str) -> str:
    """Return the name of a column for messages: printable, shortened, and in words if it is empty."""
    return _printable(column if len(column) <= _LONGEST_NAME else column[:_LONGEST_NAME] + "…") or "(nothing)"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class _Contents(io.RawIOBase):
    """The decompressed bytes of a file. All errors are PlauditErrors; a file that changes meanwhile is one."""

    def __init__(self, path: Path, file: io.FileIO, at: Callable[[int], None]) -> None:
        self._path, self._file, self._at = path, file, at
        try:
            self._before = os.fstat(file.fileno())
            beginning = file.read(_BEGINNING) or b""
            file.seek(0)
        except OSError as error:
            raise unreadable(path, error) from error
        self.compression = next((name for start, name in _BEGINNINGS.items() if beginning.startswith(start)), None)
        self._check(beginning)
        self._source = self._decompressed()

    def _check(self, beginning: bytes) -> None:
        for start, what in _OTHER_BEGINNINGS.items():
            if beginning.startswith(start):
                raise PlauditError(f"{shown(self._path)}: this is {what}")
        named = COMPRESSIONS.get(self._path.suffix.lower())
        # Plain text under the name of a compressed file is read; other bytes are a file whose beginning is damaged.
        if named is not None and self.compression is None and beginning and not _is_text(beginning):
            raise self._damaged(named, "it does not begin like one")

    def _decompressed(self) -> Any:
        if self.compression == "gzip":
            return gzip.GzipFile(fileobj=self._file)
        if self.compression is None:
            return self._file
        return _Streams(self._file, _DECOMPRESSORS[self.compression])

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Write the next decompressed bytes into ``buffer`` and return their number; 0 at the end."""
        try:
            count: int = self._source.readinto(buffer) or 0
        except _DAMAGE as error:
            raise self._damaged(self.compression, str(error)) from error
        except OSError as error:
            # gzip and bzip2 report damage as an OSError without a number.
            if error.errno is None:
                raise self._damaged(self.compression, str(error)) from error
            raise unreadable(self._path, error) from error
        self._at(self._file.tell())
        if not count and len(buffer):
            self._check_unchanged()
        return count

    def _check_unchanged(self) -> None:
        after = os.fstat(self._file.fileno())
        if (after.st_size, after.st_mtime_ns) != (self._before.st_size, self._before.st_mtime_ns):
            raise PlauditError(f"{shown(self._path)}: changed while it was read; try again when it is complete")

    def _damaged(self, compression: str | None, reason: str) -> PlauditError:
        reason = " ".join(reason.split()) or "unreadable"
        return PlauditError(f"{shown(self._path)}: damaged {compression} file ({reason}); download or write it again")

    def close(self) -> None:
        self._file.close()
        super().close()


class _Streams(io.RawIOBase):
    """One or more compressed streams in a row.

    Python's own readers ignore what follows the first stream if it does not begin like another one, so data would be
    lost without a word.
    """

    def __init__(self, file: io.FileIO, new: Callable[[], _Decompressor]) -> None:
        self._file, self._new = file, new
        self._stream = new()

    def readinto(self, buffer: Any, /) -> int:
        """Write the next decompressed bytes into ``buffer`` and return their number; 0 at the end."""
        while True:
            if self._stream.eof:
                rest = (self._stream.unused_data or self._file.read(_CHUNK)).lstrip(b"\0")
                if not rest:
                    return 0
                self._stream = self._new()
                data = self._stream.decompress(rest, len(buffer))
            elif self._stream.needs_input:
                more = self._file.read(_CHUNK)
                if not more:
                    raise EOFError("it ends too early")
                data = self._stream.decompress(more, len(buffer))
            else:
                data = self._stream.decompress(b"", len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)


_DECOMPRESSORS: dict[str, Callable[[], _Decompressor]] = {
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
    "zstd": zstd.ZstdDecompressor,
}


def _is_text(beginning: bytes) -> bool:
    if beginning.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return True
    if any(start.startswith(beginning) for start in _BEGINNINGS):
        return False
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(beginning)
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in _SPACES for character in text.removeprefix("\ufeff"))
