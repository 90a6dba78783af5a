"""Public names of a package that are imported on first use, so that importing the package is fast."""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any


def lazy_exports(package: str, names: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

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

    return get
