"""Columns of numbers in files: appended in chunks, then mapped into memory. Each chunk has a checksum."""

import os
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from plaudit.errors import PlauditError

Array = NDArray[Any]

_BLOCK = 256


@dataclass(frozen=True)
class ColumnType:
    """The numbers of a column: their type, and how many make up one entry."""

    dtype: str
    width: int = 1

    @property
    def bytes_per_entry(self) -> int:
        """Bytes of an entry."""
        return np.dtype(self.dtype).itemsize * self.width


BYTES = ColumnType("u1")
FLAGS = ColumnType("u1")
NUMBERS = ColumnType("<i8")
LENGTHS = ColumnType("<u4")
KEYS = ColumnType("u1", 16)
HASHES = ColumnType("<u8")


class ColumnWriter:
    """Appends to the file of one column."""

    def __init__(self, path: Path, kind: ColumnType, entries: int) -> None:
        """Open the file with its first ``entries`` entries; what follows them was not completed and is removed."""
        self.kind, self.entries = kind, entries
        self._file = path.open("ab")
        self._file.truncate(entries * kind.bytes_per_entry)

    def append(self, values: Array) -> int:
        """Append values and return their checksum."""
        content = np.ascontiguousarray(values, dtype=self.kind.dtype).tobytes()
        self._file.write(content)
        self.entries += len(content) // self.kind.bytes_per_entry
        return zlib.crc32(content)

    @property
    def bytes(self) -> int:
        """Size of all entries."""
        return self.entries * self.kind.bytes_per_entry

    def synchronize(self) -> None:
        """Wait until everything that was appended has reached the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class Column:
    """A finished column in memory-mapped form. Each chunk is compared with its checksum before its first use.

    Args:
        path: the file.
        kind: its numbers.
        ends: [C], entries up to the end of each chunk.
        checksums: [C], CRC-32 of each chunk's bytes.
    """

    def __init__(self, path: Path, kind: ColumnType, ends: Array, checksums: Array) -> None:
        self.path, self._ends, self._checksums = path, ends, checksums
        self._unverified = np.ones(len(ends), dtype=bool)
        entries = int(ends[-1]) if len(ends) else 0
        if path.stat().st_size != entries * kind.bytes_per_entry:
            raise damaged(path)
        shape = (entries,) if kind.width == 1 else (entries, kind.width)
        self._values: Array = np.empty(shape, kind.dtype)
        if entries:
            self._values = np.memmap(path, kind.dtype, "r", shape=shape).view(np.ndarray)

    def __len__(self) -> int:
        return len(self._values)

    def between(self, start: int, end: int) -> Array:
        """Return the entries from ``start`` up to ``end``. Raises PlauditError if their chunk is damaged."""
        if end > start:
            first, last = np.searchsorted(self._ends, (start, end - 1), side="right")
            for chunk in range(int(first), int(last) + 1):
                if self._unverified[chunk]:
                    self._verify(chunk)
        return self._values[start:end]

    def all(self) -> Array:
        """Return all entries."""
        return self.between(0, len(self))

    def _verify(self, chunk: int) -> None:
        start = int(self._ends[chunk - 1]) if chunk else 0
        if zlib.crc32(self._values[start : int(self._ends[chunk])].tobytes()) != self._checksums[chunk]:
            raise damaged(self.path)
        self._unverified[chunk] = False


class Starts:
    """Where entries of different lengths begin. Only the start of every 256th is kept in memory."""

    def __init__(self, lengths: Array) -> None:
        """``lengths`` [N]."""
        self.lengths = lengths
        sums = np.add.reduceat(lengths, np.arange(0, len(lengths), _BLOCK), dtype=np.int64) if len(lengths) else lengths
        self._blocks = np.concatenate([np.zeros(1, np.int64), np.cumsum(sums, dtype=np.int64)])

    def __getitem__(self, number: int) -> int:
        block = number // _BLOCK
        return int(self._blocks[block]) + int(self.lengths[block * _BLOCK : number].sum(dtype=np.int64))


class Ragged:
    """Entries of different lengths: the numbers of all in one column, and the length of each in another."""

    def __init__(self, values: Column, lengths: Column) -> None:
        self.values, self.lengths = values, lengths.all()
        self._starts = Starts(self.lengths)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Array:
        return self.between(number, number + 1)

    def between(self, first: int, end: int) -> Array:
        """Return the numbers of the entries from ``first`` up to ``end``."""
        start = self._starts[first]
        return self.values.between(start, start + int(self.lengths[first:end].sum(dtype=np.int64)))


def joined(parts: Sequence[Array]) -> Array:
    """Return arrays one after another; a single one is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def damaged(path: Path) -> PlauditError:
    """Return the error of a damaged file of the cache."""
    return PlauditError(f"{path}: damaged; delete the folder {path.parent}, and it is built again")


Columns = Mapping[str, ColumnType]
"""The columns of a store, by the names of their files."""
