"""Files that survive a kill: strict JSON, atomic writes and checksums."""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plaudit.errors import PlauditError, errors_of_the_system


def json_text(value: Any, indent: int | None = None, otherwise: Callable[[Any], Any] | None = None) -> str:
    """Return strict JSON; floats keep every digit, NaN and infinities become null.

    ``otherwise`` turns values that JSON does not know, such as dates, into others; without it they are an error.
    """
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False, default=otherwise)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file so that it holds the complete old or the complete new text, even if the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    with errors_of_the_system(path):
        unfinished.write_text(text, encoding="utf-8", newline="")
        synchronize(unfinished)
    os.replace(unfinished, path)
    synchronize(path.parent)


@contextmanager
def atomic_lines(path: Path) -> Iterator[Callable[[Any], None]]:
    """Give a function that writes a value as a line of strict JSON. The file appears at the end, complete.

    After an error, nothing is left.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with errors_of_the_system(path), unfinished.open("w", encoding="utf-8", newline="") as file:
            yield lambda value: print(json_text(value, otherwise=str), file=file)
        synchronize(unfinished)
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
    synchronize(path.parent)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Give a folder to write into, which gets the name ``path`` at the end, or is removed after an error.

    Raises PlauditError if ``path`` exists and is not an empty folder.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise PlauditError(f"{path}: there is something here already; name a new folder")
    path.parent.mkdir(parents=True, exist_ok=True)
    with errors_of_the_system(path), TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as temporary:
        unfinished = Path(temporary) / path.name
        unfinished.mkdir()
        yield unfinished
        os.replace(unfinished, path)
    synchronize(path.parent)


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """Return the JSON object in a file. Raises PlauditError, which ends with ``remedy``, if there is none."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise PlauditError(f"{path}: missing; {remedy}") from None
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise PlauditError(f"{path}: damaged, not a JSON object; {remedy}")
    return content


def synchronize(path: Path) -> None:
    """Wait until a file's bytes, or a folder's entries, have reached the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if hasattr(value, "item"):
        return _plain(value.item())
    return value


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def state_of(path: Path) -> list[int]:
    """Return numbers that differ after a file was written or replaced, whatever time it claims.

    Copies may carry the time of change over; the time of the last change of status cannot be set.
    """
    status = os.stat(path)
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
