"""The files of a local source: one file, those in a folder, or those that match a pattern."""

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from plaudit.data.readers.opening import shown, unreadable
from plaudit.data.readers.registry import ending_of, reader_of
from plaudit.errors import PlauditError

_PATTERN = "*?["
# What lies next to data in the folders of datasets and of programs that write shards.
_NOT_DATA = ("readme", "license", "dataset_info", "dataset_infos", "dataset_dict", "state.json", "croissant")


def is_pattern(path: str) -> bool:
    """Return whether a path is a pattern: it has one of the characters * ? [, and no file has this name."""
    return any(character in path for character in _PATTERN) and not os.path.lexists(path)


def files_of(path: str) -> list[Path]:
    """Return the files of a local source, in the order of their names.

    Raises PlauditError if there are none or of different kinds, and if a folder holds other things.
    """
    files = listed(path)
    is_one = files == [Path(path)]
    if not files:
        remedy = "no file matches this pattern; correct it" if is_pattern(path) else "no data files are in this folder"
        raise PlauditError(f"{shown(Path(path))}: {remedy}")
    readers = [reader_of(file) for file in files if is_one or not file.is_dir()]
    inner = next((file for file in files if file.is_dir()), None)
    if inner is not None:
        raise PlauditError(
            f"{shown(inner)}: this is a folder in a folder of data; name the files with a pattern, such as "
            f"{shown(inner.parent)}/**/*.jsonl"
        )
    for file, reader in zip(files, readers, strict=True):
        if reader is not readers[0]:
            raise PlauditError(
                f"{shown(file)}: another kind of file than {shown(files[0])}; name each kind with a pattern, such as "
                f"{shown(file.parent)}/*{ending_of(file)}"
            )
    return files


def listed(path: str) -> list[Path]:
    """Return what a path stands for, sorted by name and not checked: a file, or what is in a folder or matches.

    Hidden files, those that begin with an underscore, and files such as ``README.md`` and ``dataset_info.json`` are
    left out of folders and patterns, and folders out of patterns.
    """
    if is_pattern(path):
        found = [Path(name) for name in glob.glob(path, recursive=True) if not os.path.isdir(name)]
    elif os.path.isdir(path):
        try:
            found = list(Path(path).iterdir())
        except OSError as error:
            raise unreadable(Path(path), error) from error
    else:
        return [Path(path)]
    return sorted(filter(_is_data, found))


def _is_data(file: Path) -> bool:
    return not file.name.startswith((".", "_")) and not file.name.lower().startswith(_NOT_DATA)


def size_of(files: Iterable[Path]) -> int:
    """Return the size of files in bytes, as they are on disk."""
    return sum(file.stat().st_size for file in files)
