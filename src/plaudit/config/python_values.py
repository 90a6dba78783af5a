"""Converts recipes written in Python to plain values, so that they can be written as YAML and a run can be resumed.

A function becomes ``module:name``; one without such a name, such as a lambda, becomes a ``GivenFunction``. Rows, models
and tokenizers become files named after their content: the same objects give the same recipe.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plaudit.config.places import alternatives, dotted, kinds_of, name_of, section_in, type_at
from plaudit.config.schema import RewardSourceConfig
from plaudit.config.schema.base import Place
from plaudit.config.schema.data import SourceConfig
from plaudit.config.words import in_words
from plaudit.errors import PlauditError
from plaudit.log import quiet_libraries
from plaudit.plugins import GIVEN, GivenFunction

FOLDER = ".data"  # in the folder of the runs


def plain_recipe(recipe: Mapping[str, Any], default_output: str) -> dict[str, Any]:
    """Return a recipe as plain YAML data, in which functions without a name to import are a ``GivenFunction``.

    Args:
        recipe: nested keys and values. A value may be a function, a path, a model or tokenizer of transformers, or a
            pair of both. A reward source may be a function. A data source may be rows: a list of dictionaries, a
            ``datasets.Dataset`` or a pandas ``DataFrame``.
        default_output: folder of the runs if the recipe does not name one.

    Raises:
        PlauditError: a function or another object is at a key that takes none, a row holds a value that JSON cannot
            represent, or a model has adapters.
    """
    folder = Path(recipe.get("output") or default_output) / FOLDER
    plain: dict[str, Any] = _Converter(dict(recipe), folder).plain(dict(recipe), ())
    return plain


class _Converter:
    def __init__(self, recipe: dict[str, Any], folder: Path) -> None:
        self.recipe, self.folder = recipe, folder
        self.given: list[GivenFunction] = []

    def plain(self, value: Any, place: Place) -> Any:
        """Return a value at a place of the recipe as plain data."""
        if self._is_source(place) and not isinstance(value, str | Path | Mapping):
            return str(_write_rows(value, place, self.folder))
        if _is_saved(value):
            return str(_save([value], place, self.folder))
        if isinstance(value, tuple) and len(value) == 2 and all(map(_is_saved, value)):
            return str(_save(value, place, self.folder))
        if isinstance(value, Mapping):
            return {key: self.plain(inner, (*place, key)) for key, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self.plain(inner, (*place, number)) for number, inner in enumerate(value)]
        if isinstance(value, Path):
            return str(value)
        return self._function(value, place) if callable(value) else value

    def _is_source(self, place: Place) -> bool:
        return len(place) > 1 and section_in(type_at(place, self.recipe)) is SourceConfig

    def _function(self, function: Callable[..., Any], place: Place) -> Any:
        expected = type_at(place, self.recipe)
        if (kinds := kinds_of(expected)) is not None and kinds.base is RewardSourceConfig:
            name = getattr(function, "__name__", type(function).__name__)
            source = {"name": name if name.isidentifier() else f"reward-{int(place[-1]) + 1}", "kind": "function"}
            return source | {"function": _name_to_import(function) or self._given(function)}
        if (name := _name_to_import(function)) is not None:
            return name
        if expected is None or any(
            names.functions for names in map(name_of, alternatives(expected)) if names is not None
        ):
            return self._given(function)
        what = getattr(function, "__name__", type(function).__name__)
        raise PlauditError(f"{dotted(place)}: expected {in_words(expected)}, not {what}")

    def _given(self, function: Callable[..., Any]) -> GivenFunction:
        """Return the record of a function; those of the same line, such as closures of a loop, are numbered."""
        name = _described(function)
        same_line = [given for given in self.given if given.removeprefix(GIVEN).partition(" #")[0] == name]
        for given in same_line:
            if given.function is function:
                return given
        given = GivenFunction(f"{name} #{len(same_line) + 1}" if same_line else name, function)
        self.given.append(given)
        return given


def _name_to_import(function: Callable[..., Any]) -> str | None:
    """Return ``module:name`` if that is how to import this function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found = getattr(sys.modules.get(module or ""), name, None)
    return f"{module}:{name}" if found is function and name.isidentifier() else None


def _described(function: Callable[..., Any]) -> str:
    """Return a function's name with the file and line where it, or the method that calls it, is defined."""
    while isinstance(function, partial):
        function = function.func
    name = getattr(function, "__qualname__", type(function).__qualname__)
    code = getattr(function, "__code__", getattr(type(function).__call__, "__code__", None))
    if code is None:
        return name
    # In a notebook or an interactive session, the name of the file differs from one session to the next.
    file = Path(code.co_filename).name if Path(code.co_filename).is_file() else function.__module__
    return f"{name} ({file}:{code.co_firstlineno})"


def _is_saved(value: Any) -> bool:
    return hasattr(value, "save_pretrained")


def _save(objects: Sequence[Any], place: Place, folder: Path) -> Path:
    """Save a model, a tokenizer or both as transformers does and return the folder, which may exist already."""
    if any(hasattr(value, "merge_and_unload") for value in objects):
        raise PlauditError(f"{dotted(place)}: this model has adapters; give model.merge_and_unload(), or a folder")
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder) as name:
        with quiet_libraries():
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
