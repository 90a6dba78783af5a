"""Converts recipes written in Python to plain values, so that they can be written as YAML and a run can be resumed.

A function becomes ``module:name``. Rows become a JSON-lines file named after its content: the same rows give the same
recipe.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from plaudit.config.places import dotted, section_in, type_at
from plaudit.config.schema.base import Place
from plaudit.config.schema.data import SourceConfig
from plaudit.errors import PlauditError

ROWS_FOLDER = ".data"  # in the folder of the runs


def plain_recipe(recipe: Mapping[str, Any], default_output: str) -> dict[str, Any]:
    """Return a recipe as plain YAML data.

    Args:
        recipe: nested keys and values. A value may be a function, a path, or, as a data source, rows: a list of
            dictionaries, a ``datasets.Dataset`` or a pandas ``DataFrame``.
        default_output: folder of the runs if the recipe does not name one.

    Raises:
        PlauditError: a function cannot be imported by name, or a row holds a value that JSON cannot represent.
    """
    folder = Path(recipe.get("output") or default_output) / ROWS_FOLDER
    plain: dict[str, Any] = _plain(dict(recipe), (), dict(recipe), folder)
    return plain


def _plain(value: Any, place: Place, recipe: dict[str, Any], folder: Path) -> Any:
    if _is_source(place, recipe) and not isinstance(value, str | Path | Mapping):
        return str(_write_rows(value, place, folder))
    if isinstance(value, Mapping):
        return {key: _plain(inner, (*place, key), recipe, folder) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner, (*place, number), recipe, folder) for number, inner in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    return _reference(value, place) if callable(value) else value


def _is_source(place: Place, recipe: dict[str, Any]) -> bool:
    return len(place) > 1 and section_in(type_at(place, recipe)) is SourceConfig


def _reference(function: Callable[..., Any], place: Place) -> str:
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if not module or not name.isidentifier():
        what = name or type(function).__name__
        raise PlauditError(
            f"{dotted(place)}: {what} cannot be imported by its name; define a function with `def` outside of other "
            "functions"
        )
    return f"{module}:{name}"


def _write_rows(rows: Any, place: Place, folder: Path) -> Path:
    """Write rows as JSON lines and return the file, which may exist already."""
    lines = [_line(row, number, place) for number, row in enumerate(_records(rows, place), start=1)]
    content = "".join(f"{line}\n" for line in lines).encode()
    file = folder / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return file


def _records(rows: Any, place: Place) -> Iterable[Any]:
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        records: list[Any] = rows.astype(object).where(rows.notna(), None).to_dict("records")
        return records
    if isinstance(rows, Iterable):
        return rows
    raise PlauditError(f"{dotted(place)}: expected a path or rows, not {type(rows).__name__}")


def _line(row: Any, number: int, place: Place) -> str:
    if not isinstance(row, Mapping):
        raise PlauditError(f"{dotted(place)}: row {number} is of type {type(row).__name__}; give a dictionary")
    try:
        return json.dumps(dict(row), ensure_ascii=False, allow_nan=False, default=_number)
    except (TypeError, ValueError) as error:
        raise PlauditError(
            f"{dotted(place)}: row {number}: {error}; give text, numbers, lists and dictionaries"
        ) from None


def _number(value: Any) -> Any:
    """Return a number of numpy or a list of an array as Python's own; raises TypeError for anything else."""
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"a value of type {type(value).__name__} cannot be stored")
