"""Python code of the user: functions named in a recipe, and modules that add stages, engines, losses and the like.

Modules in the current folder are found without being installed. A plugin is a module that registers its entries when it
is imported: a recipe names it under ``plugins``, an installed package under the entry point group ``plaudit.plugins``.
"""

import os
import sys
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from plaudit.errors import PlauditError

GROUP = "plaudit.plugins"


@cache
def load_installed_plugins() -> None:
    """Import the plugins of all installed packages, once."""
    for entry_point in entry_points(group=GROUP):
        entry_point.load()


def load_plugins(names: Sequence[str]) -> None:
    """Import the modules that a recipe names. Raises PlauditError when one cannot be imported."""
    load_installed_plugins()
    for name in names:
        import_user_module(name, "plugins")


def import_user_module(name: str, place: str) -> ModuleType:
    """Import a module, also from the current folder.

    Raises PlauditError that starts with ``place`` (the key that names the module) and tells what the import raised.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return import_module(name)
    except Exception as error:
        raise PlauditError(
            f"{place}: importing {name} raised {type(error).__name__}: {error}; "
            "run from the folder that holds the module, or install it"
        ) from error


def import_function(reference: str, place: str) -> Callable[..., Any]:
    """Return the function that ``module:name`` names. Raises PlauditError that starts with ``place``."""
    module_name, separator, name = reference.partition(":")
    if not (separator and module_name and name):
        raise PlauditError(f"{place}: {reference} does not name a function: write module:name, such as my_code:score")
    function = getattr(import_user_module(module_name, place), name, None)
    if not callable(function):
        raise PlauditError(f"{place}: the module {module_name} has no function {name}")
    return function
