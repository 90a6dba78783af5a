"""The inputs: pairs of any number, a tokenizer trained on them, and a model so small that data dominate."""

import gzip
import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

OPENING = "\n\nHuman: "


def write_pairs(base: Path, count: int, path: Path) -> Path:
    """Write ``count`` pairs to ``path`` as JSON lines, unless it is there; return it.

    The pairs of ``base`` (.jsonl.gz, in the form of hh-rlhf) repeat; a number in the first turn makes every prompt a
    different one.
    """
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("w", encoding="utf-8") as file:
            for number, pair in enumerate(islice(cycle(_pairs(base)), count)):
                numbered = {side: _numbered(text, number) for side, text in pair.items()}
                file.write(json.dumps(numbered, ensure_ascii=False) + "\n")
        unfinished.rename(path)
    return path


def _pairs(base: Path) -> list[dict[str, str]]:
    with gzip.open(base, "rt", encoding="utf-8") as file:
        return [{side: row[side] for side in ("chosen", "rejected")} for row in map(json.loads, file)]


def _numbered(dialogue: str, number: int) -> str:
    return f"{OPENING}Request {number}. {dialogue.removeprefix(OPENING)}"


def texts_of(path: Path) -> Iterator[str]:
    """Yield prompt and both responses of every pair, each once."""
    with path.open(encoding="utf-8") as file:
        for pair in map(json.loads, file):
            prompt, chosen = _split(pair["chosen"])
            yield from (prompt, chosen, _split(pair["rejected"])[1])


def _split(dialogue: str) -> tuple[str, str]:
    end = dialogue.rindex("\n\nAssistant:") + len("\n\nAssistant:")
    return dialogue[:end], dialogue[end:]


def recipe(model: Path, data: Path, output: Path, stage: str, name: str, processes: int = 1) -> dict[str, Any]:
    """Return a recipe of one stage with two steps on ``data``."""
    settings = {
        "model": {"path": str(model)},
        "data": {"sources": [str(data)], "conversation": "human_assistant", "overlong": "truncate"},
        "max_steps": 2,
    }
    shared = {"processes": processes, "distributed": "replicated", "device": "cpu"} if processes > 1 else {}
    return {"name": name, "output": str(output), "threads": 1, **shared, stage: settings}
