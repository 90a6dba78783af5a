"""Converts recipes written in Python to plain values, so that they can be written as YAML and a run can be resumed.

A function becomes ``module:name``; one without such a name, such as a lambda, becomes a ``GivenFunction``. Rows, models
and tokenizers become files named after their content: the same objects give the same recipe. These files are complete
before they get their name, so that no later call finds a part of one.
"""

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plaudit.config.function_content import content_hash
from plaudit.config.places import alternatives, dotted, kinds_of, name_of, section_in, type_at
from plaudit.config.schema import RewardSourceConfig
from plaudit.config.schema.base import Place
from plaudit.config.schema.data import SourceConfig
from plaudit.config.words import in_words
from plaudit.errors import PlauditError
from plaudit.log import quiet_libraries
from plaudit.plugins import GivenFunction, given_name

FOLDER = ".data"  # in the folder of the runs


def plain_recipe(recipe: Mapping[str, Any], default_output: str) -> dict[str, Any]:
    """Return a recipe as plain YAML data, in which functions without a name to import are a ``GivenFunction``.

    Args:
        recipe: nested keys and values. A value may be a function, a path, a model or tokenizer of transformers, or a
            pair of both. A reward source may be a function. A data source, or its ``path``, may be rows: a list of
            dictionaries, a ``datasets.Dataset`` or a pandas ``DataFrame``. Numbers may be scalars of numpy or torch.
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
        self.names: dict[Place, set[str]] = {}

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
        if getattr(value, "shape", None) == () and hasattr(value, "item"):  # a scalar of numpy or torch
            return value.item()
        return self._function(value, place) if callable(value) else value

    def _is_source(self, place: Place) -> bool:
        entry = place[:-1] if place[-1:] == ("path",) else place
        return len(entry) > 1 and section_in(type_at(entry, self.recipe)) is SourceConfig

    def _function(self, function: Callable[..., Any], place: Place) -> Any:
        expected = type_at(place, self.recipe)
        if (kinds := kinds_of(expected)) is not None and kinds.base is RewardSourceConfig:
            source = {"name": self._reward_name(function, place), "kind": "function"}
            return source | {"function": _name_to_import(function) or self._given(function)}
        if (name := _name_to_import(function)) is not None:
            return name
        if expected is None or any(
            names.functions for names in map(name_of, alternatives(expected)) if names is not None
        ):
            return self._given(function)
        what = getattr(function, "__name__", type(function).__name__)
        raise PlauditError(f"{dotted(place)}: expected {in_words(expected)}, not {what}")

    def _reward_name(self, function: Callable[..., Any], place: Place) -> str:
        """Return the name of a function as a reward, with a number if an entry of the same list has this name."""
        name = getattr(_inner(function), "__name__", type(function).__name__)
        name = name if name.isidentifier() else f"reward-{int(place[-1]) + 1}"
        if (entries := place[:-1]) not in self.names:
            siblings: Any = self.recipe
            for key in entries:
                siblings = siblings[key]
            self.names[entries] = {str(entry.get("name")) for entry in siblings if isinstance(entry, Mapping)}
        taken = self.names[entries]
        free = next(one for one in chain([name], (f"{name}-{number}" for number in count(2))) if one not in taken)
        taken.add(free)
        return free

    def _given(self, function: Callable[..., Any]) -> GivenFunction:
        """Return the record of a function; those of the same line, such as closures of a loop, are numbered."""
        name = _described(function)
        same_line = [given for given in self.given if given_name(given).partition(" #")[0] == name]
        for given in same_line:
            if given.function is function:
                return given
        name = f"{name} #{len(same_line) + 1}" if same_line else name
        given = GivenFunction(name, content_hash(function), function)
        self.given.append(given)
        return given


def _name_to_import(function: Callable[..., Any]) -> str | None:
    """Return ``module:name`` if that is how to import this function."""
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    found = getattr(sys.modules.get(module or ""), name, None)
    return f"{module}:{name}" if found is function and name.isidentifier() else None


def _inner(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a ``partial``, or the function itself."""
    while isinstance(function, partial):
        function = function.func
    return function


def _described(function: Callable[..., Any]) -> str:
    """Return a function's name with the file and line where it, or the method that calls it, is defined."""
    function = _inner(function)
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
    with _unfinished(folder) as unfinished:
        unfinished.mkdir()
        with quiet_libraries():
            for value in objects:
                value.save_pretrained(unfinished)
        digest = hashlib.sha256()
        for file in sorted(path for path in unfinished.rglob("*") if path.is_file()):
            digest.update(file.name.encode())
            with file.open("rb") as content:
                while piece := content.read(2**20):
                    digest.update(piece)
        return _named(unfinished, folder / digest.hexdigest()[:16])


def _write_rows(rows: Any, place: Place, folder: Path) -> Path:
    """Write rows as JSON lines and return the file, which may exist already."""
    lines = [_line(row, number, place) for number, row in enumerate(_records(rows, place), start=1)]
    content = "".join(f"{line}\n" for line in lines).encode()
    with _unfinished(folder) as unfinished:
        unfinished.write_bytes(content)
        return _named(unfinished, folder / f"{hashlib.sha256(content).hexdigest()[:16]}.jsonl")


@contextmanager
def _unfinished(folder: Path) -> Iterator[Path]:
    """Yield a path in ``folder`` for a file or folder that is being written; what is left there is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="unfinished-", dir=folder) as temporary:
        yield Path(temporary) / "content"


def _named(complete: Path, name: Path) -> Path:
    """Give a file or folder the name of its content, unless an earlier call or another process has done so."""
    if name.exists():
        return name
    for file in (complete, *complete.rglob("*")):
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    try:
        os.replace(complete, name)
    except OSError:
        if not name.is_dir():  # a folder can only replace an empty one
            raise
    return name


def records_of(rows: Iterable[Any]) -> Iterable[Any]:
    """Return the rows of a pandas ``DataFrame`` as dictionaries, None for missing values; other rows as they are."""
    if hasattr(rows, "to_dict") and hasattr(rows, "columns"):
        records: list[Any] = rows.astype(object).where(rows.notna(), None).to_dict("records")  # type: ignore[attr-defined]
        return records
    return rows


def _records(rows: Any, place: Place) -> Iterable[Any]:
    if isinstance(rows, Iterable):
        return records_of(rows)
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
