"""Opens a source, which is a local file or a dataset of the hub."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from plaudit.data.readers.base import DataFile, Malformed, Meter, Numbered, Record
from plaudit.data.readers.hub import Dataset
from plaudit.data.readers.hub import check as check_dataset
from plaudit.data.readers.hub import read as read_dataset
from plaudit.data.readers.opening import shown
from plaudit.data.readers.registry import ending_of, reader_of
from plaudit.data.readers.shards import files_of, is_pattern, size_of
from plaudit.data.rows.base import Origin
from plaudit.errors import PlauditError

Placed = tuple[Origin, "Record | Malformed"]


def read_records(
    path: str,
    subset: str | None = None,
    split: str = "train",
    files: str | None = None,
    revision: str | None = None,
    streaming: bool = False,
    final_names: Mapping[str, str] | None = None,
    meter: Meter | None = None,
) -> Iterator[Placed]:
    """Yield every record of a source with its origin, or a ``Malformed`` in its place.

    Lines count from 1 in every file; for json, parquet and hub datasets the line is the number of the entry.

    Args:
        path: a file, a folder of files, a pattern such as ``data/*.jsonl``, or the name of a hub dataset.
        subset, split, files, revision, streaming: for hub datasets only; see ``Dataset``.
        final_names: columns that the caller will rename -> their new names.
        meter: counts the bytes that have been read from files.

    Raises PlauditError if the source is missing, empty, damaged or unknown, also in the middle of the reading.
    """
    if not is_local(path):
        yield from _placed(path, read_dataset(Dataset(path, subset, split, files, revision, streaming)), "dataset")
        return
    for key, is_given in (
        ("subset", subset is not None),
        ("split", split != "train"),
        ("files", files is not None),
        ("revision", revision is not None),
        ("streaming", streaming),
    ):
        if is_given:
            raise PlauditError(f"{path}: this is on disk, but {key} only applies to hub datasets; remove {key}")
    meter = meter or Meter()
    found = files_of(path)
    readers = [reader_of(file) for file in found]
    sizes = [size_of([file]) for file in found]
    meter.total, before = sum(sizes), 0
    for file, read, size in zip(found, readers, sizes, strict=True):
        yield from _placed(str(file), read(DataFile(file, final_names or {}, meter, before)), "file")
        before += size


def _placed(source: str, numbered: Iterator[Numbered], what: str) -> Iterator[Placed]:
    empty = True
    for line, record in numbered:
        empty = False
        yield Origin(source, line), record
    if empty:
        raise PlauditError(f"{shown(Path(source))}: the {what} is empty; give one with at least one row")


def check_source(path: str) -> None:
    """Raise PlauditError if files are missing or of an unknown kind, or if the hub has no such dataset."""
    if is_local(path):
        for file in files_of(path):
            reader_of(file)
    else:
        check_dataset(path)


def file_names(path: str) -> list[str]:
    """Return what the origins of a source's rows name, in order: its files, or the dataset."""
    return [str(file) for file in files_of(path)] if is_local(path) else [path]


def is_local(path: str) -> bool:
    """Return whether a source is on disk: a file, folder or pattern, rather than the name of a hub dataset."""
    looks_like_hub_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) and not path.startswith(".")
    return not looks_like_hub_name or is_pattern(path) or ending_of(Path(path)) is not None or _exists(path)


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:  # opening it raises the error
        return True
    return True
