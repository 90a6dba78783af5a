"""The names that other code may import from Plaudit and its packages, and that importing them is fast."""

import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pkgutil import iter_modules

import pytest

import plaudit
from plaudit.api import StageCall
from plaudit.registries.stages import STAGES

PACKAGES = ["plaudit"] + [
    f"plaudit.{module.name}"
    for module in iter_modules(plaudit.__path__)
    if module.ispkg and module.name not in ("cli", "recipes")
]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_exported_name_exists(package: str) -> None:
    module = import_module(package)
    assert module.__all__
    assert module.__all__ == list(dict.fromkeys(module.__all__))
    for name in module.__all__:
        assert getattr(module, name) is not None, name
        assert name in dir(module)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = module.nonsense


def test_importing_the_packages_imports_nothing_heavy() -> None:
    heavy = {"torch", "transformers", "datasets", "numpy", "pydantic", "matplotlib", "yaml", "rich", "typer"}
    light = [package for package in PACKAGES if package != "plaudit.config.schema"]
    script = f"import sys, {', '.join(light)}; print(sorted({heavy!r} & set(sys.modules)))"
    finished = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert finished.stdout == "[]\n"


def test_the_version_is_that_of_the_installed_package() -> None:
    assert plaudit.__version__ == version("plaudit")


def test_every_stage_is_a_function() -> None:
    for name in STAGES:
        call: StageCall = getattr(plaudit, name)
        assert call.__name__ == name  # type: ignore[attr-defined]
        assert STAGES[name].help in (call.__doc__ or "")
