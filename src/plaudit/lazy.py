"""Public names of a package that are imported on first use, so that importing the package is fast."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(
    package: str, names: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package.

    Args:
        package: name of the package.
        names: module of the package -> what is exported from it. Type checkers read the same imports below
            ``if TYPE_CHECKING``.
    """
    modules = {name: module for module, exported in names.items() for name in exported}

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    def names_of_package() -> list[str]:
        return sorted(
            {*sys.modules[package].__all__, *(name for name in vars(sys.modules[package]) if name[:2] == "__")}
        )

    return get, names_of_package
