"""Notebooks as plain data: their code run in one namespace, and what it prints.

``python tests/support/notebooks.py docs/notebooks/one-ppo-step.ipynb`` runs a notebook and stores what it printed.
"""

import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.read_text())
    return notebook


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def stored(cell: dict[str, Any]) -> str:
    """Return the stored output of a cell."""
    return "".join(line for output in cell["outputs"] for line in output["text"])


def execute(notebook: dict[str, Any], name: str) -> list[str]:
    """Run all code cells in one namespace and return the output of each."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    printed = []
    for number, cell in enumerate(code_cells(notebook), start=1):
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            exec(compile("".join(cell["source"]), f"{name}, cell {number}", "exec"), namespace)
        printed.append(output.getvalue())
    return printed


def store(path: Path) -> None:
    """Run a notebook and write it with its output."""
    notebook = read(path)
    for number, (cell, text) in enumerate(
        zip(code_cells(notebook), execute(notebook, path.name), strict=True), start=1
    ):
        lines = text.splitlines(keepends=True)
        cell["outputs"] = [{"name": "stdout", "output_type": "stream", "text": lines}] if lines else []
        cell["execution_count"] = number
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        store(Path(argument))
