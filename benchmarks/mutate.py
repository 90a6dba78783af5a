"""Changes the code of a folder one expression at a time and counts how many changes the tests notice.

A mutant is the package with one change: a comparison, operator, number, truth value, condition or function is replaced,
or a call whose result is not used is removed. The mutant is killed if a test fails or hangs. The test files that import
the changed module run first. Mutants run in processes forked from one that has loaded torch and pytest, so that each
takes little longer than its tests.

    python benchmarks/mutate.py src/plaudit/algorithms tests/algorithms
    python benchmarks/mutate.py src/plaudit/batching tests/batching --sample 100
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.machinery
import importlib.util
import io
import multiprocessing
import os
import random
import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SECONDS = 120  # a mutant whose tests take longer counts as killed
COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Pow: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
FUNCTIONS = {
    "sum": "mean",
    "mean": "sum",
    "max": "min",
    "min": "max",
    "minimum": "maximum",
    "maximum": "minimum",
    "amax": "amin",
    "exp": "expm1",
    "expm1": "exp",
    "softplus": "relu",
    "logsigmoid": "tanh",
    "cumsum": "cumprod",
    "logcumsumexp": "cumsum",
    "any": "all",
    "all": "any",
    "ceil": "floor",
}


@dataclass(frozen=True)
class Mutant:
    """A changed file: its path, the place and description of the change, and the changed text."""

    path: Path
    line: int
    change: str
    text: str


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file. Types, docstrings, imports and error messages are not changed."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kept = set(_kept(tree))
    for node in [node for node in ast.walk(tree) if id(node) not in kept]:
        for variant in range(3):
            changed = copy.deepcopy(node)
            if change := _mutate(changed, variant):
                original, node.__dict__ = node.__dict__, changed.__dict__
                text = ast.unparse(ast.fix_missing_locations(tree))
                node.__dict__ = original
                yield Mutant(path, getattr(node, "lineno", 0), change, text)


def _kept(tree: ast.AST) -> Iterator[int]:
    """Yield the identities of nodes that no test of behavior can judge."""
    for node in ast.walk(tree):
        parts: list[ast.AST | None] = []
        if isinstance(node, ast.arg | ast.AnnAssign):
            parts = [node.annotation]
        elif isinstance(node, ast.FunctionDef):
            parts = [node.returns, *node.decorator_list]
        elif isinstance(node, ast.ClassDef):
            parts = [*node.decorator_list, *node.bases]
        elif isinstance(node, ast.Raise | ast.Import | ast.ImportFrom) or _is_for_type_checkers(node):
            parts = [node]
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Subscript | ast.Name):
            parts = [node.value] if _is_type(node) else []
        for part in filter(None, parts):
            yield from (id(inner) for inner in ast.walk(part))


def _is_for_type_checkers(node: ast.AST) -> bool:
    """Return whether a node is ``if TYPE_CHECKING`` or a ``TypeVar``."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "TypeVar"
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _is_type(node: ast.Assign) -> bool:
    """Return whether an assignment names a type, as in ``Estimator = Callable[[Tensor], Tensor]``."""
    value = node.value
    name = value.value if isinstance(value, ast.Subscript) else value
    return isinstance(name, ast.Name) and name.id in {"Callable", "Literal", "Mapping", "Sequence"}


def _mutate(node: Any, variant: int) -> str:
    """Change a node in place and return a description; an empty string if it has no such variant."""
    before: Any
    if variant == 0 and isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        before, node.ops[0] = node.ops[0], COMPARISONS[type(node.ops[0])]()
        return f"{type(before).__name__} -> {type(node.ops[0]).__name__}"
    if variant == 0 and isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        before, node.op = node.op, OPERATORS[type(node.op)]()
        return f"{type(before).__name__} -> {type(node.op).__name__}"
    if variant == 0 and isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.Not | ast.Invert):
        name = type(node.op).__name__
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else node.op
        if isinstance(node.op, ast.Not):
            node.operand = ast.UnaryOp(ast.Not(), node.operand)
        elif isinstance(node.op, ast.Invert):
            node.operand = ast.UnaryOp(ast.Invert(), node.operand)
        return f"without {name}"
    if variant == 0 and isinstance(node, ast.BoolOp):
        node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        return f"now {type(node.op).__name__}"
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        if variant == 2:
            return ""
        before, node.value = node.value, node.value + (1 if variant == 0 else -1)
        return f"{before} -> {node.value}"
    if variant == 0 and isinstance(node, ast.Constant) and isinstance(node.value, bool):
        node.value = not node.value
        return f"now {node.value}"
    if isinstance(node, ast.IfExp | ast.If) and variant < 2:
        node.test = ast.Constant(variant == 0)
        return f"condition always {variant == 0}"
    if variant == 0 and isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        node.value = ast.Constant(None)
        return "without the call"
    if variant == 0 and isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        before, node.func.id = node.func.id, FUNCTIONS[node.func.id]
        return f"{before} -> {node.func.id}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if variant == 0 and node.func.attr in FUNCTIONS:
            before, node.func.attr = node.func.attr, FUNCTIONS[node.func.attr]
            return f"{before} -> {node.func.attr}"
        if variant == 0 and node.func.attr == "clamp":
            node.func.attr, node.args, node.keywords = "clone", [], []
            return "without clamp"
        if variant == 1 and node.func.attr == "detach":
            node.func.attr = "clone"
            return "without detach"
    return ""


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports one module from a changed text."""

    def __init__(self, mutant: Mutant, name: str) -> None:
        self.mutant, self.name = mutant, name

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname != self.name:
            return None
        return importlib.util.spec_from_loader(fullname, self, origin=str(self.mutant.path))

    def exec_module(self, module: Any) -> None:
        module.__file__ = str(self.mutant.path)
        exec(compile(self.mutant.text, str(self.mutant.path), "exec"), module.__dict__)


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts[path.parts.index("plaudit") :])


def _tests_pass(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    import hypothesis
    import pytest

    # One failing example is enough: do not search for a smaller one.
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
    hypothesis.settings.register_profile("mutants", phases=phases)
    hypothesis.settings.load_profile("mutants")
    if mutant is not None:
        sys.meta_path.insert(0, _Finder(mutant, _module_name(mutant.path)))
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    options = ["-x", "-q", "-p", "no:cacheprovider", "-W", "ignore"]
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return pytest.main([*options, *tests]) == 0


def _survives(mutant: Mutant | None, tests: Sequence[str]) -> bool:
    """Return whether all tests pass; they run in a forked process."""
    context = multiprocessing.get_context("fork")
    child = context.Process(target=lambda: os._exit(0 if _tests_pass(mutant, tests) else 1))
    child.start()
    child.join(SECONDS)
    if child.is_alive():
        child.kill()
        child.join()
    return child.exitcode == 0


def main() -> None:
    """Print every mutant that survives, and the fraction that is killed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("code", type=Path, help="folder or file in src/plaudit")
    parser.add_argument("tests", nargs="+", help="test folders or files, the most likely to fail first")
    parser.add_argument("--sample", type=int, help="test only this many mutants, drawn at random")
    options = parser.parse_args()
    files = [options.code] if options.code.is_file() else sorted(options.code.rglob("*.py"))
    everything = [mutant for file in files for mutant in mutants(file)]
    if options.sample:
        everything = random.Random(0).sample(everything, min(options.sample, len(everything)))
    import hypothesis  # noqa: F401
    import pytest  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))  # its first call imports much
    if not _survives(None, options.tests):
        raise SystemExit("the tests fail without any change; fix them first")
    survivors = 0
    for number, mutant in enumerate(everything, start=1):
        own = _own_tests(mutant.path, options.tests)
        if (not own or _survives(mutant, own)) and _survives(mutant, options.tests):
            survivors += 1
            print(f"{mutant.path}:{mutant.line}: {mutant.change}", flush=True)
        if number % 50 == 0:
            print(f"… {number} of {len(everything)}, {survivors} survive", flush=True)
    killed = len(everything) - survivors
    print(f"{killed} of {len(everything)} mutants killed ({killed / len(everything):.1%})")


def _own_tests(path: Path, tests: Sequence[str]) -> list[str]:
    """Return the test files that import a module: they are the most likely to fail, so they run first."""
    name = _module_name(path)
    files = [file for test in map(Path, tests) for file in ([test] if test.is_file() else test.rglob("test_*.py"))]
    return [str(file) for file in files if f"from {name} import" in file.read_text(encoding="utf-8")]


if __name__ == "__main__":
    main()
