"""Plain text: every line that is not blank is a record with the one column ``text``."""

from collections.abc import Iterator

from plaudit.data.readers.base import DataFile, Malformed, Numbered
from plaudit.data.readers.encoding import Utf8Stream

COLUMN = "text"
LONGEST_LINE = 1 << 24


def read(file: DataFile) -> Iterator[Numbered]:
    """Yield the lines that are not blank, without their line ends."""
    number = 0
    with file.open_utf8() as lines:
        for number, line in enumerate(_lines(lines), start=1):
            if len(line) > LONGEST_LINE:
                reason = f"a line of more than {LONGEST_LINE >> 20} MiB; split it into lines"
                yield number, Malformed.at(reason, line.decode("utf-8", errors="replace"))
                continue
            try:
                text = line.decode("utf-8").removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                yield number, Malformed.at("not valid UTF-8", line.decode("utf-8", errors="replace"), error.start)
                continue
            if "\0" in text:
                yield number, Malformed.at("a zero byte", text)
            elif text.strip():
                yield number, {COLUMN: text}
        lines.check_lines(number)


def _lines(file: Utf8Stream) -> Iterator[bytes]:
    """Yield the lines; of one that is too long, only its beginning."""
    while line := file.readline(LONGEST_LINE + 1):
        rest = line
        while len(rest) > LONGEST_LINE and not rest.endswith(b"\n"):
            rest = file.readline(LONGEST_LINE + 1)
        yield line
