"""Saves a batch that stopped the run, for inspection."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plaudit.batching.trees import Example


def save_faulty_batch(folder: Path, examples: Sequence[Example[Any]], rank: int) -> Path:
    """Write the examples' token ids and targets as JSON lines, longest first, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"faulty-batch-{rank}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for example in sorted(examples, key=lambda example: -example.tree.positions):
            file.write(json.dumps(asdict(example), default=str) + "\n")
    return path
