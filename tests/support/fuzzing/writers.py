"""Writes records in every kind of file, and remembers the bytes of every record."""

import bz2
import csv
import gzip
import io
import json
import lzma
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

from fuzzing.rows import ONE_LINE, PIECES, records, text

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Record = dict[str, Any]


@dataclass
class Piece:
    """Some bytes of a file: those of one record with its line end, or, without a record, what several depend on."""

    content: bytes
    record: Record | None = None
    touched: bool = False


@dataclass
class Written:
    """The pieces of a file before compression.

    ``by_line``: whether records are named by their line, and not by their number. ``recovers``: whether damage in one
    line leaves the others readable. ``universal``: whether it is a table, in which a carriage return also ends a line.
    """

    ending: str
    pieces: list[Piece]
    by_line: bool = True
    recovers: bool = False
    universal: bool = False
    encoding: str = "utf-8"
    compression: str = ""
    description: str = field(default="")

    @property
    def content(self) -> bytes:
        """The bytes before compression."""
        return b"".join(piece.content for piece in self.pieces)

    @property
    def records(self) -> list[Record]:
        """All records, in order."""
        return [piece.record for piece in self.pieces if piece.record is not None]


def json_lines(random: Random) -> Written:
    """JSON lines, under each of their three names."""
    rows = records(random)
    end = random.choice(("\n", "\r\n"))
    ascii_only = random.random() < 0.5
    pieces = [Piece((json.dumps(row, ensure_ascii=ascii_only) + end).encode(), row) for row in rows]
    ending = random.choice((".jsonl", ".ndjson", ".json"))
    if ending == ".json" and len(pieces) == 1:
        ending = ".jsonl"  # a single object is not JSON lines
    return Written(ending, pieces, recovers=ending != ".json")


def json_list(random: Random) -> Written:
    """A list of objects, alone or under a key."""
    rows = records(random)
    indent = random.choice((None, 1))
    separator = random.choice((", ", ",\n"))
    before, after = random.choice(
        (("[", "]"), ("[\n", "\n]\n"), ('{"data": [', "]}"), ('{"version": 1, "rows": [', "]}"))
    )
    pieces = [Piece(before.encode())]
    for number, row in enumerate(rows):
        if number:
            pieces.append(Piece(separator.encode()))
        pieces.append(Piece(json.dumps(row, indent=indent).encode(), row))
    return Written(".json", [*pieces, Piece(after.encode())], by_line=False)


def json_layout(random: Random) -> Written:
    """The layouts of pandas and of dictionaries of lists, in which all records depend on one structure."""
    import pandas

    rows = records(random)
    frame = pandas.DataFrame(rows)
    orient = random.choice(("split", "columns", "index", "table", "lists"))
    content = json.dumps(frame.to_dict("list")) if orient == "lists" else frame.to_json(orient=orient)
    pieces = [Piece(content.encode()), *(Piece(b"", row) for row in rows)]
    return Written(".json", pieces, by_line=False, description=orient)


def table(random: Random) -> Written:
    """A table of text with one of four delimiters."""
    delimiter = random.choice((",", ",", "\t", ";", "|"))
    rows = records(random, tuple(piece for piece in PIECES if "\r" not in piece))
    quote_all = random.random() < 0.5
    end = random.choice(("\n", "\r\n"))

    def line(cells: list[str]) -> bytes:
        buffer = io.StringIO()
        dialect = csv.unix_dialect if quote_all else csv.excel
        csv.writer(buffer, dialect, delimiter=delimiter, lineterminator=end).writerow(cells)
        return buffer.getvalue().encode()

    pieces = [Piece(line(list(rows[0]))), *(Piece(line(list(row.values())), row) for row in rows)]
    ending = random.choice((".csv", ".tsv")) if delimiter == "\t" else ".csv"
    return Written(ending, pieces, universal=True, description=f"delimiter {delimiter!r}")


def plain_text(random: Random) -> Written:
    """One text per line."""
    pieces = tuple(piece for piece in ONE_LINE if "\r" not in piece)
    rows = [text(random, number, pieces) for number in range(random.randint(1, 20))]
    return Written(".txt", [Piece(f"{row}\n".encode(), {"text": row}) for row in rows], recovers=True)


def parquet(random: Random) -> Written:
    """A parquet file with checksums of its pages."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    rows = records(random)
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(
        pyarrow.Table.from_pylist(rows),
        buffer,
        compression=random.choice(("none", "snappy", "zstd", "gzip")),
        row_group_size=random.choice((3, 1000)),
        write_page_checksum=True,
    )
    pieces = [Piece(buffer.getvalue()), *(Piece(b"", row) for row in rows)]
    return Written(".parquet", pieces, by_line=False)


WRITERS: dict[Callable[[Random], Written], int] = {
    json_lines: 3,
    json_list: 2,
    json_layout: 1,
    table: 4,
    plain_text: 1,
    parquet: 1,
}
"""Writers of each kind of file, and how often each is drawn."""

_WIDTHS = {"utf-16-le": 2, "utf-16-be": 2, "utf-32-le": 4, "utf-32-be": 4}
_COMPRESSORS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda content: content,
    ".gz": lambda content: gzip.compress(content, mtime=0),
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: zstd.compress(content, options={zstd.CompressionParameter.checksum_flag: 1}),
}


def written(random: Random) -> Written:
    """Return a file of a random kind, encoding and compression."""
    (writer,) = random.choices(list(WRITERS), list(WRITERS.values()))
    file = writer(random)
    if file.ending != ".parquet":
        _encode(file, random.choice((*["utf-8"] * 5, "utf-8-sig", *_WIDTHS)))
    file.compression = random.choice(("", "", *_COMPRESSORS))
    return file


def compressed(file: Written) -> bytes:
    """Return the bytes of a file as they are on disk."""
    return _COMPRESSORS[file.compression](file.content)


def _encode(file: Written, encoding: str) -> None:
    file.encoding = encoding
    if encoding == "utf-8":
        return
    plain = encoding.removesuffix("-sig")
    for piece in file.pieces:
        piece.content = piece.content.decode().encode(plain)
    file.pieces.insert(0, Piece("\ufeff".encode(plain)))


def width(file: Written) -> int:
    """Return the number of bytes of a unit of the file's encoding."""
    return _WIDTHS.get(file.encoding, 1)
