"""User code: functions named in a recipe, and modules that add stages, engines, losses and so on.

Modules in the current folder and next to the recipe are found without being installed. A plugin is a module that
registers its entries when it is imported: a recipe names it under ``plugins``, an installed package under the entry
point group ``plaudit.plugins``.
"""

import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from plaudit.errors import Interrupted, PlauditError

GROUP = "plaudit.plugins"


@cache
def load_installed_plugins() -> None:
    """Import the plugins of all installed packages, once."""
    for entry_point in entry_points(group=GROUP):
        entry_point.load()


def load_plugins(names: Sequence[str]) -> None:
    """Import the modules that a recipe names. Raises PlauditError if one cannot be imported."""
    load_installed_plugins()
    for name in names:
        import_user_module(name, "plugins")


def search_modules_in(folder: Path) -> None:
    """Append a folder, such as that of a recipe, to the module search path."""
    if str(folder.resolve()) not in sys.path:
        sys.path.append(str(folder.resolve()))


def import_user_module(name: str, place: str) -> ModuleType:
    """Import a module, also from the current folder or that of the recipe.

    Raises PlauditError. Its message begins with ``place``, the key that names the module, and gives the exception and
    its file and line.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(name)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            raise PlauditError(
                f"{place}: importing {name} raised {type(error).__name__}: {error}; run from the folder that holds the "
                "module, put it next to the recipe, or install it"
            ) from error
        where = _last_line(error, traceback.extract_tb(error.__traceback__))
        raise PlauditError(f"{place}: importing {name} raised {type(error).__name__} at {where}: {error}") from error


def import_object(reference: str, place: str) -> Any:
    """Return the object ``module:name``. Raises PlauditError, which begins with ``place``."""
    module_name, separator, name = reference.partition(":")
    if not (separator and module_name and name):
        raise PlauditError(f"{place}: {reference} does not name a function: write module:name, such as my_code:score")
    module = import_user_module(module_name, place)
    if not hasattr(module, name):
        if module_name == "__main__":
            raise PlauditError(
                f"{place}: the function {name} was defined in a script or notebook; continue the run there, or move "
                "the function to a module"
            )
        read_from = f" ({_short(module.__file__)})" if getattr(module, "__file__", None) else ""
        raise PlauditError(f"{place}: the module {module_name}{read_from} has no function {name}; check the name")
    return getattr(module, name)


def import_function(reference: str, place: str) -> Callable[..., Any]:
    """Return the function ``module:name``. Raises PlauditError, which begins with ``place``."""
    found = import_object(reference, place)
    if not callable(found):
        raise PlauditError(f"{place}: {reference} is of type {type(found).__name__}; name a function")
    function: Callable[..., Any] = found
    return function


def is_built_in(thing: Any) -> bool:
    """Return whether a class, or the class of an object, is part of Plaudit itself."""
    kind = thing if isinstance(thing, type) else type(thing)
    return kind.__module__.partition(".")[0] == "plaudit"


@contextmanager
def user_code(place: str, function: Callable[..., Any]) -> Iterator[None]:
    """Turn an exception that ``function`` raises in this context into a PlauditError that begins with ``place``.

    The message names the exception, the file and the line. PlauditError and out-of-memory errors are not changed.
    """
    try:
        yield
    except (PlauditError, Interrupted):
        raise
    except Exception as error:
        from plaudit.memory import is_out_of_memory

        if is_out_of_memory(error):
            raise
        where = where_it_failed(error, function)
        raise PlauditError(f"{place} raised {type(error).__name__} at {where}: {_text(error)}") from error


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def where_it_failed(error: BaseException, function: Callable[..., Any]) -> str:
    """Return ``file:line`` of the last traceback entry in the function's own file.

    The exception may come from deep inside a library, but users need the line in their own code.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    return _last_line(error, own or frames)


def _last_line(error: BaseException, frames: Sequence[traceback.FrameSummary]) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}"


def _short(file: str | None) -> str:
    """Return a path as relative if it is below the current folder."""
    path = Path(file or "")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
