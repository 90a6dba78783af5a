"""Converts recipes written in Python to plain values, so that they can be written as YAML and a run can be resumed.

A function becomes ``module:name``. Rows, models and tokenizers become files named after their content: the same objects
give the same recipe.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plaudit.config.places import dotted, section_in, type_at
from plaudit.config.schema.base import Place
from plaudit.config.schema.data import SourceConfig
from plaudit.errors import PlauditError

FOLDER = ".data"  # in the folder of the runs


def plain_recipe(recipe: Mapping[str, Any], default_output: str) -> dict[str, Any]:
    """Return a recipe as plain YAML data.

    Args:
        recipe: nested keys and values. A value may be a function, a path, a model or tokenizer of transformers, or a
            pair of both. A data source may be rows: a list of dictionaries, a ``datasets.Dataset`` or a pandas
            ``DataFrame``.
        default_output: folder of the runs if the recipe does not name one.

    Raises:
        PlauditError: a function cannot be imported by name, a row holds a value that JSON cannot represent, or a model
            has adapters.
    """
    folder = Path(recipe.get("output") or default_output) / FOLDER
    plain: dict[str, Any] = _plain(dict(recipe), (), dict(recipe), folder)
    return plain


def _plain(value: Any, place: Place, recipe: dict[str, Any], folder: Path) -> Any:
    if _is_source(place, recipe) and not isinstance(value, str | Path | Mapping):
        return str(_write_rows(value, place, folder))
    if _is_saved(value):
        return str(_save([value], place, folder))
    if isinstance(value, tuple) and len(value) == 2 and all(map(_is_saved, value)):
        return str(_save(value, place, folder))
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


def _is_saved(value: Any) -> bool:
    return hasattr(value, "save_pretrained")


def _save(objects: Sequence[Any], place: Place, folder: Path) -> Path:
    """Save a model, a tokenizer or both as transformers does and return the folder, which may exist already."""
    if any(hasattr(value, "merge_and_unload") for value in objects):
        raise PlauditError(f"{dotted(place)}: this model has adapters; give model.merge_and_unload(), or a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as name:
        for value in objects:
            value.save_pretrained(name)
        digest = hashlib.sha256()
        for file in sorted(Path(name).rglob("*")):
            digest.update(file.name.encode() + file.read_bytes())
        saved = folder / digest.hexdigest()[:16]
        if not saved.exists():
            shutil.copytree(name, saved)
    return saved


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
