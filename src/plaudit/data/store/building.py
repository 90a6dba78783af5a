"""Builds a store: a folder of columns that is written chunk by chunk, and continued after a kill.

One process builds while others wait. A chunk counts once its line is in the journal, whose last line says that the
store is complete.
"""

import gc
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from plaudit.data.store.columns import Array, Column, Columns, ColumnWriter, damaged
from plaudit.errors import PlauditError, errors_of_the_system
from plaudit.files import json_text

logger = logging.getLogger(__name__)

JOURNAL = "journal"


@dataclass(frozen=True)
class Chunk:
    """What to append to each column, and what is known about the source up to here; the last chunk's facts are kept.

    ``fraction``: what fraction of the source has been read; None if that is not known.
    """

    values: Mapping[str, Array]
    facts: Mapping[str, Any]
    fraction: float | None = None


Line = dict[str, Any]
"""A line of the journal: the ends of the columns after a chunk, the checksums of its parts, and the facts."""

Chunks = Callable[[int, Mapping[str, Any]], Iterator[Chunk]]
"""Yields the chunks of a store without the first ones, whose number and last facts are given."""


@dataclass(frozen=True)
class Store:
    """A finished store: its columns and the facts about it."""

    folder: Path
    columns: Mapping[str, Column]
    facts: Mapping[str, Any]


def built(folder: Path, columns: Columns, chunks: Chunks) -> Store:
    """Return the store in a folder; build or complete it first if it is not finished.

    Raises PlauditError if the folder is damaged, if the disk is full or will be, and whatever ``chunks`` raises. What
    is written stays, and is continued by the next call.
    """
    lines = _journal(folder, columns)
    if not _is_complete(lines):
        with errors_of_the_system(folder):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                lines = _journal(folder, columns)
                if not _is_complete(lines):
                    _build(folder, columns, chunks, lines)
    return _opened(folder, columns, lines[:-1])


def is_complete(folder: Path) -> bool:
    """Return whether the store in a folder is complete; a damaged one is not."""
    try:
        return _is_complete(_journal(folder, {}))
    except PlauditError:
        return False


def _build(folder: Path, columns: Columns, chunks: Chunks, lines: list[Line]) -> None:
    """Append the chunks that are not in the journal to columns, journal and ``lines``."""
    if lines:
        logger.info("%s: continuing after %d chunks", folder, len(lines))
    last = lines[-1] if lines else {"ends": dict.fromkeys(columns, 0), "facts": {}}
    with ExitStack() as stack:
        writers = {
            name: stack.enter_context(closing(ColumnWriter(folder / name, kind, last["ends"][name])))
            for name, kind in columns.items()
        }
        journal = stack.enter_context(closing(_JournalWriter(folder / JOURNAL, lines)))
        for chunk in _without_collections(chunks(len(lines), last["facts"])):
            checksums = {name: writer.append(chunk.values[name]) for name, writer in writers.items()}
            for writer in writers.values():
                writer.synchronize()
            ends = {name: writer.entries for name, writer in writers.items()}
            journal.append({"ends": ends, "checksums": checksums, "facts": dict(chunk.facts)})
            if chunk.fraction:
                _check_space(folder, sum(writer.bytes for writer in writers.values()), chunk.fraction)
        journal.append({"complete": True})


def _check_space(folder: Path, written: int, fraction: float) -> None:
    """Raise PlauditError if the rest of a store, as large as what is written makes likely, does not fit on the disk."""
    total, free = written / fraction, shutil.disk_usage(folder).free
    if total - written > free:
        raise PlauditError(
            f"{folder}: about {total / 1e9:.3g} GB are needed, of which {written / 1e9:.3g} GB are written, but only "
            f"{free / 1e9:.3g} GB are left on the disk; free some space, choose another disk with `output`, or read "
            "less with `limit`"
        )


def _without_collections(chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield chunks. Python's search for cycles of objects pauses while one is made, which takes a fifth less time."""
    collects = gc.isenabled()
    while True:
        gc.disable()
        try:
            chunk = next(chunks, None)
        finally:
            if collects:
                gc.enable()
        if chunk is None:
            return
        yield chunk


class _JournalWriter:
    """Appends to the journal and to its lines in memory; a line that was cut off before is removed."""

    def __init__(self, path: Path, lines: list[Line]) -> None:
        self._lines = lines
        self._file = path.open("ab")
        self._file.truncate(sum(len(_text(line)) for line in lines))

    def append(self, line: Line) -> None:
        self._file.write(_text(line))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._lines.append(line)

    def close(self) -> None:
        self._file.close()


def _text(line: Line) -> bytes:
    content = json_text(line).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def _journal(folder: Path, columns: Columns) -> list[Line]:
    """Return the lines of the journal. A last line that was cut off does not count."""
    path = folder / JOURNAL
    texts = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    lines: list[Line] = []
    for text in texts:
        if text.endswith(b"\n"):
            checksum, _, content = text.rstrip(b"\n").partition(b" ")
            if checksum != b"%08x" % zlib.crc32(content):
                raise damaged(path)
            lines.append(json.loads(content))
    chunks = lines[:-1] if _is_complete(lines) else lines
    for name, entries in chunks[-1]["ends"].items() if chunks else ():
        file = folder / name
        needed = entries * columns[name].bytes_per_entry if name in columns else 0
        if not file.exists() or file.stat().st_size < needed:
            raise damaged(file)
    return lines


def _is_complete(lines: list[Line]) -> bool:
    return bool(lines) and "complete" in lines[-1]


def _opened(folder: Path, columns: Columns, lines: list[Line]) -> Store:
    opened = {}
    for name, kind in columns.items():
        ends, checksums = (np.array([line[what][name] for line in lines], np.int64) for what in ("ends", "checksums"))
        if not (folder / name).exists():
            raise damaged(folder / name)
        opened[name] = Column(folder / name, kind, ends, checksums)
    return Store(folder, opened, lines[-1]["facts"] if lines else {})
