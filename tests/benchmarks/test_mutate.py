"""Which changes a mutation run makes, and which parts of a file it leaves alone."""

import ast
from pathlib import Path

import mutate

CODE = '''
"""A docstring with 1."""

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T", covariant=True)
LIMIT: "int | 1" = 2


def total(values: "list[1]", found: list[float]) -> float:
    """Add 2."""
    if len(values) < LIMIT:
        raise ValueError(f"fewer than {LIMIT + 0}")
    found.append(values[0])
    return sum(values) / LIMIT
'''


def test_every_expression_changes_once(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(CODE)
    found = {(mutant.change, mutant.line) for mutant in mutate.mutants(path)}
    assert found == {
        ("2 -> 3", 10),
        ("2 -> 1", 10),
        ("condition always True", 15),
        ("condition always False", 15),
        ("Lt -> LtE", 15),
        ("without the call", 17),
        ("0 -> 1", 17),
        ("0 -> -1", 17),
        ("Div -> Mult", 18),
        ("sum -> mean", 18),
    }


def test_a_mutant_differs_in_its_change_alone(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(CODE)
    whole = ast.unparse(ast.parse(CODE)).splitlines()
    for mutant in mutate.mutants(path):
        lines = mutant.text.splitlines()
        assert len(lines) == len(whole)
        assert sum(one != other for one, other in zip(lines, whole, strict=True)) == 1, mutant.change
