"""The page about the traps names all of them, with their tests."""

import re
from pathlib import Path

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs/algorithms/traps.md"
TEST = re.compile(r"^def (test_trap_(\d\d)_\w+)", re.MULTILINE)


def test_every_trap_has_its_test_and_its_row() -> None:
    found = {
        (int(number), name, path.name)
        for path in HERE.glob("test_traps_of_*.py")
        for name, number in TEST.findall(path.read_text())
    }
    assert {number for number, _, _ in found} == set(range(1, 26))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.read_text().splitlines()]
    rows = [row for row in rows if row[0].isdigit()]
    assert [int(row[0]) for row in rows] == list(range(1, 26))
    assert all(trap and curves for _, trap, curves, _, _ in rows)
    linked = {
        (int(row[0]), name, file) for row in rows for name, file in re.findall(r"\[`(\w+)`\]\(\S+/(\w+\.py)\)", row[-1])
    }
    assert linked == found
