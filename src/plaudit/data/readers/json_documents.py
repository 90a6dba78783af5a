"""JSON files: a list of objects, an object that holds one, the layouts of pandas, or JSON lines under this name.

A list is read entry by entry, so it may be larger than memory. An object is read at once.
"""

import io
import json
from collections.abc import Iterator
from typing import TextIO

from plaudit.data.readers import json_layouts, json_lines
from plaudit.data.readers.base import DataFile, Malformed, Numbered, Record
from plaudit.data.readers.opening import named, shown
from plaudit.data.readers.strict_json import StrictDecoder
from plaudit.errors import PlauditError

_WHITE_SPACE = " \t\r\n"
_CHUNK = 1 << 20
# An error this close to the end of what has been read so far may only mean that the rest is missing.
_UNCERTAIN = 16
_UNTERMINATED = "Unterminated string"


def read(file: DataFile) -> Iterator[Numbered]:
    """Yield the entries of a list with their number, or the records of JSON lines with their line."""
    layout = _layout(file)
    if layout == "lines":
        yield from json_lines.read(file)
        return
    with file.open_utf8() as stream, io.TextIOWrapper(stream, encoding="utf-8", newline="") as text:
        try:
            yield from _entries(file, text) if layout == "list" else _object(file, text)
        except UnicodeDecodeError as error:
            raise PlauditError(
                f"{shown(file.path)}: not valid UTF-8 ({error.reason}); save the file as UTF-8"
            ) from error


def _layout(file: DataFile) -> str:
    """Return "list", "object", or "lines" if the first line is an object and another line follows."""
    with file.open_utf8() as stream:
        first = _line_with_text(stream, _CHUNK)
        if first.lstrip().startswith(b"["):  # perhaps all in one line, which may be large
            return "list"
        if not first.endswith(b"\n"):
            first += stream.readline()
        return "lines" if _is_object(first) and _line_with_text(stream) else "object"


def _line_with_text(stream: io.BufferedReader, limit: int = -1) -> bytes:
    return next((line for line in iter(lambda: stream.readline(limit), b"") if line.strip()), b"")


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _object(file: DataFile, text: TextIO) -> Iterator[Numbered]:
    content = text.read().strip(_WHITE_SPACE)
    if not content:
        return
    decoder = StrictDecoder()
    try:
        value, end = decoder.decode(content)
    except (ValueError, RecursionError) as error:
        raise _malformed(file, content, error) from error
    if end != len(content):
        raise _malformed(file, content, json.JSONDecodeError("Extra data", content, end))
    if decoder.repeated:
        raise PlauditError(f"{shown(file.path)}: two keys named {named(decoder.repeated[0])} in one object; rename one")
    if not isinstance(value, dict):
        raise PlauditError(f"{shown(file.path)}: expected a list of objects; {json_layouts.KNOWN}")
    yield from json_layouts.records(value, shown(file.path), decoder.not_finite)


def _entries(file: DataFile, text: TextIO) -> Iterator[Numbered]:
    """Yield the entries of a list, of which only one and the text read ahead are in memory."""
    scanner = _Scanner(file, text)
    scanner.take("[")
    number = 0
    if scanner.next_character() != "]":
        while True:
            number += 1
            yield number, scanner.record()
            if scanner.next_character() != ",":
                break
            scanner.take(",")
    scanner.take("]")
    scanner.expect_end()


class _Scanner:
    """Decodes one value after the other from a text that is read in chunks."""

    def __init__(self, file: DataFile, text: TextIO) -> None:
        self._file, self._text = file, text
        self._buffer, self._position = "", 0
        self._lines_before = 0
        self._ended = False
        self._decoder = StrictDecoder()

    def next_character(self) -> str:
        """Skip white space and return the next character; empty at the end."""
        while True:
            while self._position < len(self._buffer):
                character = self._buffer[self._position]
                if character not in _WHITE_SPACE:
                    return character
                self._position += 1
            if not self._read_on():
                return ""

    def take(self, expected: str) -> None:
        """Skip a character. Raises PlauditError if another one follows."""
        if self.next_character() != expected:
            raise self._fault(json.JSONDecodeError(f"expected {expected}", self._buffer, self._position))
        self._position += 1

    def expect_end(self) -> None:
        """Raise PlauditError if something follows."""
        if self.next_character():
            raise self._fault(json.JSONDecodeError("more than one value", self._buffer, self._position))

    def record(self) -> Record | Malformed:
        """Return the next value as a record."""
        self.next_character()
        while True:
            try:
                value, end = self._decoder.decode(self._buffer, self._position)
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith(_UNTERMINATED) or error.pos > len(self._buffer) - _UNCERTAIN
                if not (unfinished and self._read_on()):
                    raise self._fault(error) from error
            except (ValueError, RecursionError) as error:
                raise self._fault(error) from error
            else:
                # A number at the end of the buffer may go on.
                if end < len(self._buffer) or not self._read_on():
                    text = self._buffer[self._position : end]
                    self._position = end
                    return self._decoder.record(value, text)

    def _read_on(self) -> bool:
        """Drop what has been decoded and read at least as much again as there is left; return whether more came."""
        if self._ended:
            return False
        more = self._text.read(max(_CHUNK, len(self._buffer) - self._position))
        if not more:
            self._ended = True
            return False
        self._lines_before += self._buffer.count("\n", 0, self._position)
        self._buffer, self._position = self._buffer[self._position :] + more, 0
        return True

    def _fault(self, error: Exception) -> PlauditError:
        return _malformed(self._file, self._buffer, error, self._lines_before)


def _malformed(file: DataFile, text: str, error: Exception, lines_before: int = 0) -> PlauditError:
    if not isinstance(error, json.JSONDecodeError):
        return PlauditError(f"{shown(file.path)}: malformed JSON (nested too deeply); correct the file")
    line = lines_before + text.count("\n", 0, error.pos) + 1
    return PlauditError(f"{shown(file.path)} line {line}: malformed JSON ({error.msg}); correct the file")
