"""Small files that a kill cannot harm: metrics as JSON lines, and texts that are replaced as a whole."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import PlauditError


class MetricsLog:
    """Appends records to a file of JSON lines; each line has left the process when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_broken_last_line(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. Tensors of one element become numbers; JSON has no NaN and no infinity: they become null."""
        self._file.write(json_text(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines, none if there is no file.

    A last line that a kill cut short is left out. Raises ``PlauditError`` for any other line that is no JSON.
    """
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [_record(line, path, number) for number, line in enumerate(lines, start=1)]


def rewind(path: Path, step: int | None) -> None:
    """Drop the records after ``step``, or all of them if it is None, so that a resumed stage writes them anew."""
    if path.exists():
        kept = [record for record in read_metrics(path) if step is not None and record["step"] <= step]
        write_atomically(path, "".join(json_text(record) + "\n" for record in kept))


def json_text(value: Any, indent: int | None = None) -> str:
    """Return strict JSON; floats keep every digit, numbers that are not finite become null."""
    return json.dumps(_plain(value), indent=indent, ensure_ascii=False, allow_nan=False)


def write_atomically(path: Path, text: str) -> None:
    """Replace the file: whenever the process dies, the file holds the whole old or the whole new text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    synchronise(unfinished)
    os.replace(unfinished, path)
    synchronise(path.parent)


def synchronise(path: Path) -> None:
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


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        raise PlauditError(f"{path}, line {number}: not a JSON object; remove the line or restore the file")
    return record


def _drop_broken_last_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    if content and not content.endswith(b"\n"):
        write_atomically(path, content[: content.rfind(b"\n") + 1].decode())
