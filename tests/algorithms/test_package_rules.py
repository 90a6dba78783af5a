"""The rules of the package ``algorithms``: it imports only torch, and every docstring gives equation and source."""

import ast
import importlib
import inspect
import pkgutil
import sys
from pathlib import Path

import pytest

import plaudit.algorithms

MODULES = [module.name for module in pkgutil.iter_modules(plaudit.algorithms.__path__)]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


@pytest.mark.parametrize("name", MODULES)
def test_imports_only_torch(name: str) -> None:
    module = importlib.import_module(f"plaudit.algorithms.{name}")
    for other in imported(Path(inspect.getfile(module))):
        top = other.split(".")[0]
        assert top == "torch" or top in sys.stdlib_module_names or other.startswith("plaudit.algorithms."), other


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_is_explained(name: str) -> None:
    module = importlib.import_module(f"plaudit.algorithms.{name}")
    assert module.__doc__
    for public, thing in vars(module).items():
        if not public.startswith("_") and getattr(thing, "__module__", None) == module.__name__:
            assert thing.__doc__, public
