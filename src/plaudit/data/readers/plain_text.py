"""Plain text: every line that is not blank is a record with the one column ``text``."""

from collections.abc import Iterator

from plaudit.data.readers.base import DataFile, Malformed, Numbered

COLUMN = "text"


def read(file: DataFile) -> Iterator[Numbered]:
    """Yield the lines that are not blank, without their line ends."""
    number = 0
    with file.open_utf8() as lines:
        for number, line in enumerate(lines, start=1):
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
