"""Saves a batch that stops the run, for inspection."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from plaudit.batching.trees import Example
from plaudit.config.schema import Section
from plaudit.errors import PlauditError
from plaudit.runs.context import StageContext


def faulty_batch_error(context: StageContext[Section], examples: Sequence[Example[Any]], what: str) -> PlauditError:
    """Save the examples and return the error to raise; ``what`` says which number is not finite."""
    file = save_faulty_batch(context.directory.folder, examples, context.session.rank)
    return PlauditError(
        f"{context.name}: {what}; the batch is in {file}. Check its longest and most unusual rows, "
        "then lower optimizer.learning_rate, set optimizer.max_gradient_norm, or use precision=fp32"
    )


def save_faulty_batch(folder: Path, examples: Sequence[Example[Any]], rank: int) -> Path:
    """Write the examples' token ids and targets as JSON lines, longest first, and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"faulty-batch-{rank}.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for example in sorted(examples, key=lambda example: -example.tree.positions):
            file.write(json.dumps(asdict(example), default=str) + "\n")
    return path
