"""JSON lines: one object per line. A bad line is reported with its number, and reading continues after it."""

from collections.abc import Iterator

from plaudit.data.readers.base import DataFile, Malformed, Numbered, Record
from plaudit.data.readers.strict_json import StrictDecoder, quick_record

_WHITE_SPACE = " \t\r\n"
_BYTE_ORDER_MARK = "\ufeff"


def read(file: DataFile) -> Iterator[Numbered]:
    """Yield the record of every line that is not blank."""
    decoder = StrictDecoder()
    number = 0
    with file.open_utf8() as lines:
        for number, line in enumerate(lines, start=1):
            if (quick := quick_record(line)) is not None:
                yield number, quick
                continue
            try:
                text = line.decode("utf-8")
            except UnicodeDecodeError as error:
                yield number, Malformed.at("not valid UTF-8", line.decode("utf-8", errors="replace"), error.start)
                continue
            record = _record(text, decoder)
            if record is not None:
                yield number, record
        lines.check_lines(number)


def _record(text: str, decoder: StrictDecoder) -> Record | Malformed | None:
    """Return the record of a line; None for a blank one."""
    try:
        value, end = decoder.decode(text)
    except RecursionError:
        return Malformed.at("nested too deeply", text)
    except ValueError as error:
        # Nothing else may stand before a value; a byte order mark does in a file that was appended to another one.
        rest = text.removeprefix(_BYTE_ORDER_MARK).strip(_WHITE_SPACE)
        if not rest:
            return None
        if not text.startswith(rest):
            return _record(rest, decoder)
        return Malformed.at("malformed JSON", text, getattr(error, "pos", 0))
    if end != len(text) and text[end:].strip(_WHITE_SPACE):
        return Malformed.at("malformed JSON", text, end)
    return decoder.record(value, text)
