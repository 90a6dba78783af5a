"""Files of JSON lines that survive a kill: metrics and samples."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from plaudit.errors import PlauditError
from plaudit.files import json_text, synchronize

LAST_STEP = 2**63 - 1


class JsonLinesWriter:
    """Appends records to a file of JSON lines; each line is flushed before ``append`` returns."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        _drop_broken_last_line(path)
        self._file = path.open("a", encoding="utf-8")

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one line. Tensors with one element become numbers; NaN and infinity become null."""
        self._file.write(json_text(record) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def __enter__(self) -> "JsonLinesWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a file of JSON lines; an empty list if the file does not exist.

    An incomplete last line, left by a kill, is skipped. Raises ``PlauditError`` for any other line that is not a JSON
    object.
    """
    return list(_records(path))


def iterate_steps(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of ``read_json_lines`` one by one. Raises PlauditError also for one without a ``step``."""
    for number, record in enumerate(_records(path), start=1):
        _step(record, path, number)
        yield record


def _records(path: Path) -> Iterator[dict[str, Any]]:
    if not path.exists():
        return
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.endswith(b"\n"):
                yield _record(line, path, number)


def rewind(path: Path, step: int | None) -> int | None:
    """Drop the records after ``step``, or all if it is None, so that a resumed stage can write them again.

    They are the end of the file, because records are written in the order of the steps. Returns the step of the last
    record that is left; None if there is none.
    """
    if not path.exists():
        return None
    length, last = 0, None
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if step is None or not line.endswith(b"\n"):
                break
            written = _step(_record(line, path, number), path, number)
            if written > step:
                break
            length, last = length + len(line), written
    os.truncate(path, length)
    synchronize(path)
    return last


def _step(record: dict[str, Any], path: Path, number: int) -> int:
    step = record.get("step")
    if not isinstance(step, int) or abs(step) > LAST_STEP:
        raise PlauditError(f"{path}, line {number}: has no integer step; delete the line or restore the file")
    return step


def _record(line: bytes, path: Path, number: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise PlauditError(f"{path}, line {number}: not a JSON object; delete the line or restore the file")
    return record


def _drop_broken_last_line(path: Path) -> None:
    content = path.read_bytes() if path.exists() else b""
    complete = content.rfind(b"\n") + 1
    if complete < len(content):
        os.truncate(path, complete)
