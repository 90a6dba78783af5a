"""Compares the folders of two runs: weights, metrics, samples, results and all other files, without times."""

import json
from pathlib import Path
from typing import Any

WITH_TIMES = ("metadata.json", "manifest.json", "inputs.json", ".models.json")
"""Files that hold times or checksums of files that hold times; only that they exist is compared."""


def differences(expected: Path, found: Path) -> list[str]:
    """Return what differs between the folders of two runs, one line per file."""
    names = {path.relative_to(folder) for folder in (expected, found) for path in folder.rglob("*") if path.is_file()}
    return [line for name in sorted(names) if (line := _difference(expected / name, found / name, str(name)))]


def _difference(expected: Path, found: Path, name: str) -> str:
    if not found.is_file():
        return f"{name}: missing"
    if not expected.is_file():
        return f"{name}: left over"
    if expected.name in WITH_TIMES or expected.suffix == ".html":
        return ""
    before, after = _content(expected), _content(found)
    return "" if before == after else f"{name}: differs{_where(before, after)}"


def _where(expected: Any, found: Any) -> str:
    """Return the first line of two logs that differs, and the numbers in it that do."""
    for number, (before, after) in enumerate(zip(expected, found, strict=False), start=1):
        if isinstance(before, dict) and isinstance(after, dict) and before != after:
            names = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
            values = (f"{name} {after.get(name)} instead of {before.get(name)}" for name in names)
            return f" in line {number}: {', '.join(values)}"
    return ""


def _content(file: Path) -> Any:
    if file.suffix == ".json":
        return _without_times(json.loads(file.read_text(encoding="utf-8")))
    if file.suffix == ".jsonl":
        return [_without_times(json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
    return file.read_bytes()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if "seconds" not in key}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value
