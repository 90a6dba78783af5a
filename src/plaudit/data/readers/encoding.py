"""Presents text files as UTF-8: UTF-16 and UTF-32 are recoded, and byte order marks are removed."""

import codecs
import io
import json
from pathlib import Path
from typing import Any, cast

from plaudit.data.readers.opening import shown
from plaudit.errors import PlauditError

_CHUNK = 1 << 20


class Utf8Stream(io.BufferedReader):
    """The bytes of a text file as UTF-8, and an independent count of the lines that went through it.

    Bytes that are not UTF-8 pass unchanged; whoever decodes a line reports them with their place. Halves of surrogate
    pairs in UTF-16 become such bytes. Raises PlauditError if UTF-16 or UTF-32 is damaged or ends within a character.
    """

    def __init__(self, path: Path, contents: io.BufferedReader) -> None:
        self._recoded = _Recoded(path, contents)
        super().__init__(cast(Any, self._recoded), _CHUNK)

    def check_lines(self, read: int, universal: bool = False) -> None:
        """Raise PlauditError if a reader that has read everything did not get all lines.

        Args:
            read: number of lines that the reader read. universal: whether a single carriage return also ends a line.
        """
        there = self._recoded.lines(universal)
        if read != there:
            raise PlauditError(
                f"{shown(self._recoded.path)}: only {read} of {there} lines could be read; write it again"
            )


class _Recoded(io.RawIOBase):
    """UTF-8 bytes of the contents, and the number of line ends among them."""

    def __init__(self, path: Path, contents: io.BufferedReader) -> None:
        self.path = path
        self._contents = contents
        self._newlines = self._returns = self._pairs = 0
        self._last = b""
        self._encoding = ""
        self._decoder: codecs.IncrementalDecoder | None = None
        self._ready = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def _detect(self) -> None:
        # json.detect_encoding goes by the byte order mark, and without one by the zeros that UTF-16 has in ASCII.
        self._encoding = json.detect_encoding(self._contents.peek(4)[:4])
        if self._encoding == "utf-8-sig":
            self._contents.read(len(codecs.BOM_UTF8))
        elif self._encoding != "utf-8":
            self._decoder = codecs.getincrementaldecoder(self._encoding)("surrogatepass")

    def readinto(self, buffer: Any, /) -> int:
        """Write the next bytes, recoded as UTF-8, into ``buffer`` and return their number; 0 at the end."""
        if not self._encoding:
            self._detect()
        if self._decoder is None:
            count = self._contents.readinto1(buffer)
            self._count(bytes(buffer[:count]))
            return count
        while not self._ready and not self._ended:
            self._ready = memoryview(self._recode())
        count = min(len(self._ready), len(buffer))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _recode(self) -> bytes:
        assert self._decoder is not None
        data = self._contents.read(_CHUNK)
        self._ended = not data
        try:
            text = self._decoder.decode(data, final=self._ended)
        except UnicodeDecodeError as error:
            raise PlauditError(
                f"{shown(self.path)}: not valid {self._encoding.upper()} ({error.reason}); save the file as UTF-8"
            ) from error
        recoded = text.encode("utf-8", errors="surrogatepass")
        self._count(recoded)
        return recoded

    def _count(self, data: bytes) -> None:
        if not data:
            return
        self._newlines += data.count(b"\n")
        returns = data.count(b"\r")
        if returns or self._last == b"\r":
            self._returns += returns
            self._pairs += data.count(b"\r\n") + (self._last == b"\r" and data[:1] == b"\n")
        self._last = data[-1:]

    def lines(self, universal: bool) -> int:
        ends = self._newlines + (self._returns - self._pairs if universal else 0)
        ended = self._last in ((b"", b"\n", b"\r") if universal else (b"", b"\n"))
        return ends + (not ended)

    def close(self) -> None:
        self._contents.close()
        super().close()
