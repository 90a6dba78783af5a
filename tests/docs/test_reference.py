"""The reference of the Python API lists every exported name, and their docstrings are complete."""

import inspect
import re
from collections.abc import Callable
from importlib import import_module
from pkgutil import resolve_name
from types import UnionType
from typing import Any

import pytest

import plaudit
from pages import DOCS
from plaudit.registries.stages import WITH_COMMAND

LISTED = re.findall(
    r"^::: (\S+)",
    "".join((DOCS / f"reference/{page}.md").read_text() for page in ("plaudit", "extension-points")),
    re.M,
)
IMPORTS = re.findall(r"^from (plaudit[\w.]*) import (.+)$", (DOCS / "extending.md").read_text(), re.MULTILINE)


@pytest.mark.parametrize("name", plaudit.__all__)
def test_every_exported_name_is_in_the_reference(name: str) -> None:
    page = (DOCS / "reference/plaudit.md").read_text()
    assert f"plaudit.{name}" in LISTED or f"`plaudit.{name}`" in page


@pytest.mark.parametrize("name", LISTED)
def test_everything_listed_exists_and_is_described(name: str) -> None:
    assert inspect.getdoc(resolve_name(name))


@pytest.mark.parametrize("module, names", IMPORTS)
def test_what_the_page_on_extending_imports_is_in_the_reference(module: str, names: str) -> None:
    for name in names.split(", "):
        found = getattr(import_module(module), name)
        assert {module, *places(found, name)} & {*LISTED}, f"{module}.{name}"


def places(found: Any, name: str) -> set[str]:
    """Return the module and the dotted name of an object and of its type; for an alias of a type, listed modules."""
    if isinstance(found, UnionType):
        return {listed for listed in LISTED if getattr(resolve_name(listed), name, None) is found}
    owners = [owner for owner in (found, type(found)) if hasattr(owner, "__qualname__")]
    return {place for owner in owners for place in (owner.__module__, f"{owner.__module__}.{owner.__qualname__}")}


FUNCTIONS = [
    plaudit.run,
    plaudit.iterate,
    plaudit.load_policy,
    plaudit.load_recipe,
    plaudit.load_reward,
    plaudit.chat,
    plaudit.api.StageCall.__call__,
]
METHODS = [
    method
    for owner in (plaudit.Run, plaudit.Policy, plaudit.Reward)
    for name, method in inspect.getmembers(owner, inspect.isfunction)
    if name[0] != "_"
]


@pytest.mark.parametrize("function", [*FUNCTIONS, *METHODS])
def test_docstrings_name_arguments_results_and_errors(function: Callable[..., Any]) -> None:
    text = inspect.getdoc(function) or ""
    signature = inspect.signature(function)
    for name in signature.parameters:
        assert name == "self" or re.search(rf"^    {name}: .", text, re.MULTILINE), name
    assert "\nRaises:\n" in text
    assert signature.return_annotation in (None, "None") or re.search(r"^(Returns|Yields):\n", text, re.MULTILINE)


@pytest.mark.parametrize("name", WITH_COMMAND)
def test_a_stages_function_says_what_all_stages_say(name: str) -> None:
    assert str(plaudit.api.StageCall.__call__.__doc__) in str(getattr(plaudit, name).__doc__)
