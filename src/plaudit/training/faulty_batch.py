"""A batch that broke the run, kept for inspection."""

import json
from collections.abc import Sequence
from pathlib import Path

from plaudit.batching.trees import PromptTree


def save_faulty_batch(folder: Path, trees: Sequence[PromptTree], rank: int) -> Path:
    """Write the trees' token ids and texts as JSON lines, longest first, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"faulty-batch-{rank}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for tree in sorted(trees, key=lambda tree: -tree.positions):
            row = {"prompt": tree.prompt, "responses": tree.responses, "fields": dict(tree.fields)}
            file.write(json.dumps(row, default=str) + "\n")
    return path
