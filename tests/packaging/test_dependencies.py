"""The package imports exactly what pyproject.toml declares."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
INSTALLED = packages_distributions()
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LATER_STANDARD_LIBRARY = {"compression"}  # Python 3.14
ELSEWHERE = {"vllm"}  # the plug-in for vLLM runs in vLLM's environment
# These are read from a configuration or loaded by transformers: no import names them.
WITHOUT_IMPORT = {"quantization": {"bitsandbytes"}, "tensorboard": {"tensorboard"}, "wandb": {"wandb"}}


def declared(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(line).name) for line in requirements}


CORE = declared(PROJECT["dependencies"])
EXTRAS = {
    name: declared(lines) for name, lines in PROJECT["optional-dependencies"].items() if name not in {"test", "docs"}
}


def imports(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield (top-level module, whether it is imported when this file is) for every import outside the package."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "import_module":
            names = [a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        for name in names:
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names | LATER_STANDARD_LIBRARY | ELSEWHERE and top != "plaudit":
                yield top, node in tree.body


def distributions(module: str) -> set[str]:
    return {canonicalize_name(name) for name in INSTALLED.get(module, [module])}


FOUND = [
    (path.relative_to(ROOT), module, at_once)
    for path in SOURCES
    for module, at_once in imports(ast.parse(path.read_text(encoding="utf-8")))
]


def test_every_import_is_declared() -> None:
    known = CORE.union(*EXTRAS.values())
    missing = {f"{path}: {module}" for path, module, _ in FOUND if not distributions(module) & known}
    assert not missing


def test_packages_of_extras_are_imported_where_they_are_used() -> None:
    """A module that imports it at the top must not be imported at the top of another module."""
    early = {path for path, module, at_once in FOUND if at_once and not distributions(module) & CORE}
    for path in early:
        name = ".".join(path.relative_to("src").with_suffix("").parts)
        assert not [other for other in SOURCES if name in _imported_at_once(other)], path


def _imported_at_once(path: Path) -> set[str]:
    """Return the package's modules that a file imports at its top."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def test_every_dependency_is_imported() -> None:
    used = set().union(*(distributions(module) for _, module, _ in FOUND))
    unused = {name: wanted - used - WITHOUT_IMPORT.get(name, set()) for name, wanted in {"": CORE, **EXTRAS}.items()}
    assert not any(unused.values()), unused


def test_everything_installed_by_make_has_one_exact_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = {canonicalize_name(line.partition("==")[0]) for line in lines if not line.startswith("#")}
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))
    wanted = CORE | declared(PROJECT["optional-dependencies"]["test"])
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for extra in re.findall(r"\.\[([\w,]+)\]", makefile):
        wanted |= declared([line for name in extra.split(",") for line in PROJECT["optional-dependencies"][name]])
    assert wanted <= pinned, wanted - pinned


def test_package_data_is_every_file_that_is_not_python() -> None:
    folder = ROOT / "src/plaudit"
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["plaudit"]
    shipped = {pattern: set(folder.glob(pattern)) for pattern in patterns}
    assert all(shipped.values()), shipped
    files = {path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in files if path.suffix != ".py"} == set().union(*shipped.values())
