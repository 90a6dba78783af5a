"""Opens a source, which is a local file or a dataset of the hub."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from plaudit.data.readers.base import DataFile, Numbered
from plaudit.data.readers.hub import check as check_dataset
from plaudit.data.readers.hub import read as read_dataset
from plaudit.data.readers.opening import shown
from plaudit.data.readers.registry import ending_of, reader_of
from plaudit.errors import PlauditError


def read_records(
    path: str,
    subset: str | None = None,
    split: str = "train",
    files: str | None = None,
    final_names: Mapping[str, str] | None = None,
) -> Iterator[Numbered]:
    """Yield (line, record or ``Malformed``) for every record of a local file or hub dataset.

    Lines count from 1; for json, parquet and hub datasets the line is the number of the entry. ``subset``, ``split``
    and ``files`` are for hub datasets only. ``final_names`` maps columns that the caller will rename to their new
    names. Raises PlauditError if the source is missing, empty, damaged or unknown, also in the middle of the reading.
    """
    local = is_local(path)
    if local:
        if subset is not None or files is not None:
            key = "files" if subset is None else "subset"
            raise PlauditError(f"{path}: this is a local file, but {key} only applies to hub datasets; remove {key}")
        read = reader_of(Path(path))(DataFile(Path(path), final_names or {}))
    else:
        read = read_dataset(path, subset, split, files)
    empty = True
    for numbered in read:
        empty = False
        yield numbered
    if empty:
        name = shown(Path(path))
        raise PlauditError(f"{name}: the {'file' if local else 'dataset'} is empty; give one with at least one row")


def check_source(path: str) -> None:
    """Raise PlauditError if a file is missing or of an unknown kind, or if the hub has no such dataset."""
    if is_local(path):
        reader_of(Path(path))
    else:
        check_dataset(path)


def is_local(path: str) -> bool:
    """Return whether a source is a local file rather than the name of a hub dataset."""
    looks_like_hub_name = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", path) and not path.startswith(".")
    return not looks_like_hub_name or ending_of(Path(path)) is not None or _exists(path)


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except FileNotFoundError:
        return False
    except OSError:  # opening it raises the error
        return True
    return True
