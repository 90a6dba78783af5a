"""User code: functions named in a recipe, and modules that add stages, engines, losses and so on.

Modules in the current folder and next to the recipe are found without being installed. A plugin is a module that
registers its entries when it is imported: a recipe names it under ``plugins``, an installed package under the entry
point group ``plaudit.plugins``.
"""

import inspect
import opcode
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from plaudit.errors import Interrupted, PlauditError, Terminated

GROUP = "plaudit.plugins"
GIVEN = "python: "
_CODE = ", code "

_LIBRARIES = (Path(__file__).parent, Path(os.__file__).parent)  # Plaudit itself and Python's standard library
_INSTALLED = {"site-packages", "dist-packages"}
_plugin_packages: set[str] = set()


class GivenFunction(str):
    """A function that a Python program gave and that cannot be imported by name, such as a lambda or a bound method.

    The text, ``python: NAME (FILE:LINE), code HASH``, is what a run records. It is enough to recognize the function
    when the program gives it again, and not to call it.
    """

    function: Callable[..., Any]

    def __new__(cls, name: str, content: str, function: Callable[..., Any]) -> "GivenFunction":
        """Record ``function`` as ``name``, with the hash of its content."""
        given = super().__new__(cls, f"{GIVEN}{name}{_CODE}{content}")
        given.function = function
        return given


def given_name(text: str) -> str:
    """Return name, file and line of a given function."""
    return text.removeprefix(GIVEN).partition(_CODE)[0]


def is_same_function(one: Any, other: Any) -> bool:
    """Return whether two texts name the same given function, which may have another line of its file or other code."""
    texts = isinstance(one, str) and isinstance(other, str) and one.startswith(GIVEN) and other.startswith(GIVEN)
    return texts and re.sub(r":\d+\)", ")", given_name(one)) == re.sub(r":\d+\)", ")", given_name(other))


def has_other_code(one: str, other: str) -> bool:
    """Return whether the code or the bound values of a given function differ between two texts that name it."""
    return one.partition(_CODE)[2] != other.partition(_CODE)[2]


@cache
def load_installed_plugins() -> None:
    """Import the plugins of all installed packages, once. Raises PlauditError if one cannot be imported."""
    for entry_point in entry_points(group=GROUP):
        _plugin_packages.add(entry_point.module.partition(".")[0])
        _load(entry_point)


def _load(entry_point: EntryPoint) -> None:
    try:
        entry_point.load()
    except BaseException as error:
        if _is_interruption(error):
            raise
        package = entry_point.dist.name if entry_point.dist else entry_point.module
        where = _where(error)
        raise PlauditError(
            f"plugin {entry_point.name} of the installed package {package}: importing {entry_point.value} raised "
            f"{type(error).__name__} at {where}: {_text(error)}; repair the package, or run: pip uninstall {package}"
        ) from error


def load_plugins(names: Sequence[str], place: str = "plugins") -> None:
    """Import the modules that a recipe or option ``place`` names. Raises PlauditError if one cannot be imported."""
    load_installed_plugins()
    for name in names:
        _plugin_packages.add(name.partition(".")[0])
        import_user_module(name, place)


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
    except PlauditError as error:
        raise PlauditError(f"{place}: {error}") from error
    except BaseException as error:
        if _is_interruption(error):
            raise
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            raise PlauditError(
                f"{place}: importing {name} raised {type(error).__name__}: {error}; run from the folder that holds the "
                "module, put it next to the recipe, or install it"
            ) from error
        raise PlauditError(
            f"{place}: importing {name} raised {type(error).__name__} at {_where(error)}: {_text(error)}"
        ) from error


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
        raise PlauditError(f"{place}: the module {module_name}{read_from} does not define {name}; check the name")
    return getattr(module, name)


def import_function(reference: str, place: str) -> Callable[..., Any]:
    """Return the function ``module:name``, or a given one. Raises PlauditError, which begins with ``place``."""
    if isinstance(reference, GivenFunction):
        return reference.function
    if reference.startswith(GIVEN):
        raise PlauditError(
            f"{place}: this run needs the function {given_name(reference)}, which a Python program gave it; "
            "run that program again to continue, with the same name and output"
        )
    found = import_object(reference, place)
    if not callable(found):
        raise PlauditError(f"{place}: {reference} is of type {type(found).__name__}; name a function")
    function: Callable[..., Any] = found
    return function


def is_built_in(thing: Any) -> bool:
    """Return whether a class, or the class of an object, is part of Plaudit itself."""
    kind = thing if isinstance(thing, type) else type(thing)
    return kind.__module__.partition(".")[0] == "plaudit"


def check_methods(thing: Any, interface: type, place: str) -> None:
    """Check that an object (or class) from outside has the methods of ``interface``, with the same arguments.

    Raises PlauditError, which begins with ``place``.
    """
    if is_built_in(thing):
        return
    owner = thing.__name__ if isinstance(thing, type) else type(thing).__name__
    for name, method in inspect.getmembers(interface, inspect.isfunction):
        if name.startswith("_"):
            continue
        arguments = list(inspect.signature(method).parameters)[1:]
        found = getattr(thing, name, None)
        if not callable(found):
            raise PlauditError(f"{place}: {owner} has no method {name}({', '.join(arguments)}); add it")
        try:
            inspect.signature(found).bind(*arguments)
        except TypeError as error:
            raise PlauditError(
                f"{place}: {owner}.{name} is called with ({', '.join(arguments)}), but takes {inspect.signature(found)}"
            ) from error


@contextmanager
def errors_of_user_code() -> Iterator[None]:
    """Raise PlauditError, with file and line, for every exception that code from outside raises inside.

    Such code is what is neither Plaudit, nor a library, nor the code that entered this context: plugins, functions
    named in a recipe, and everything that they register. Exceptions without such code in their traceback pass
    unchanged, and so do PlauditError, interruptions and running out of memory.
    """
    try:
        yield
    except (PlauditError, Interrupted):
        raise
    except BaseException as error:
        from plaudit.memory import is_out_of_memory

        # The first two entries are this generator and the function that entered the context.
        called = list(traceback.walk_tb(error.__traceback__))[2:]
        outside = [frame for frame, _ in called if _is_from_outside(frame)]
        if not outside or _is_interruption(error) or is_out_of_memory(error):
            raise
        name = outside[-1].f_code.co_qualname
        notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
        raise PlauditError(f"{name} raised {type(error).__name__} at {_where(error)}: {_text(error)}{notes}") from error


def _is_interruption(error: BaseException) -> bool:
    """Return whether a signal, such as Ctrl-C, or the end of a generator raised this exception.

    A ``raise`` in code from outside is no interruption.
    """
    if not isinstance(error, KeyboardInterrupt | GeneratorExit):
        return isinstance(error, Terminated)
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None:
        return True
    # Python delivers signals and closes generators between instructions, never at a `raise`.
    is_raise = last.tb_frame.f_code.co_code[last.tb_lasti] == opcode.opmap["RAISE_VARARGS"]
    return not (is_raise and _is_from_outside(last.tb_frame))


def is_from_user_code(error: BaseException) -> bool:
    """Return whether code from outside was running when the exception was raised."""
    return bool(_entries_from_outside(error))


def _entries_from_outside(error: BaseException) -> list[tuple[FrameType, int]]:
    return [(frame, line) for frame, line in traceback.walk_tb(error.__traceback__) if _is_from_outside(frame)]


def _is_from_outside(frame: FrameType) -> bool:
    if str(frame.f_globals.get("__name__")).partition(".")[0] in _plugin_packages:
        return True
    file = Path(frame.f_code.co_filename)
    is_library = any(file.is_relative_to(folder) for folder in _LIBRARIES) or not _INSTALLED.isdisjoint(file.parts)
    return not is_library and not file.name.startswith("<")


@contextmanager
def user_code(place: str, function: Callable[..., Any]) -> Iterator[None]:
    """Turn an exception that ``function`` raises in this context into a PlauditError that begins with ``place``.

    The message names the exception, the file and the line. PlauditError and out-of-memory errors are not changed.
    """
    try:
        yield
    except (PlauditError, Interrupted):
        raise
    except BaseException as error:
        from plaudit.memory import is_out_of_memory

        if _is_interruption(error) or is_out_of_memory(error):
            raise
        where = where_it_failed(error, function)
        raise PlauditError(f"{place} raised {type(error).__name__} at {where}: {_text(error)}") from error


def _where(error: BaseException) -> str:
    """Return ``file:line`` of the last traceback entry of code from outside, or of the last entry if there is none."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{_short(error.filename)}:{error.lineno}"
    frame, line = (_entries_from_outside(error) or list(traceback.walk_tb(error.__traceback__)))[-1]
    return f"{_short(frame.f_code.co_filename)}:{line}"


def _text(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"


def where_it_failed(error: BaseException, function: Callable[..., Any]) -> str:
    """Return ``file:line`` of the last traceback entry in the function's own file.

    The exception may come from deep inside a library, but users need the line in their own code.
    """
    code = getattr(inspect.unwrap(function), "__code__", None)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
    return f"{_short(own[-1].filename)}:{own[-1].lineno}" if own else _where(error)


def _short(file: str | None) -> str:
    """Return a path as relative if it is below the current folder."""
    path = Path(file or "")
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
