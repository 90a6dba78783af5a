"""The notebooks run, and their stored output equals what they print."""

import re
from pathlib import Path

import pytest

import notebooks

FOLDER = Path(__file__).parents[2] / "docs/notebooks"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


def numbers(text: str) -> list[float]:
    return [float(found) for found in NUMBER.findall(text)]


def words(text: str) -> str:
    """The text without its numbers and its columns' spaces."""
    return " ".join(NUMBER.sub("#", text).split())


def without_samples(text: str) -> str:
    """The words of a cell's output without lines that depend on which tokens were sampled."""
    return words("\n".join(line for line in text.splitlines() if not line.startswith(("- ", "  "))))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.name)
def test_notebook_prints_what_it_holds(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Other processors round differently, so another token may be sampled and the numbers may differ."""
    monkeypatch.chdir(tmp_path)
    notebook = notebooks.read(path)
    cells = notebooks.code_cells(notebook)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    expected = [notebooks.stored(cell) for cell in cells]
    found = notebooks.execute(notebook, path.name)
    assert [without_samples(text) for text in found] == [without_samples(text) for text in expected]
    if [words(text) for text in found] == [words(text) for text in expected]:
        for one, other in zip(found, expected, strict=True):
            assert numbers(one) == pytest.approx(numbers(other), rel=0.02, abs=2e-3)
