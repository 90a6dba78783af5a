"""Tiny recipes with all stages and arrangements of weights, whose runs take seconds."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[2] / "tests" / "support"))

from tiny_runs import tiny_recipe

NEEDED = {
    "pretrain": [],
    "sft": ["pretrain"],
    "reward": ["sft"],
    "dpo": ["sft"],
    "rl": ["sft", "reward"],
    "evaluate": ["sft", "rl"],
    "report": [],
}
"""Stage -> the stages whose models it reads here."""

LORA = {"rank": 2, "alpha": 4.0}


@dataclass(frozen=True)
class Arrangement:
    """How many processes train, and what the recipe has instead of the defaults."""

    processes: int = 1
    changes: dict[str, Any] = field(default_factory=dict)


ARRANGEMENTS = {
    "separate": Arrangement(),
    "shared": Arrangement(changes={"rl__weights": "shared", "rl__value_model": None}),
    "adapters": Arrangement(
        changes={"rl__weights": "adapters", "rl__model": {"path": "stage:sft", "lora": LORA}, "rl__value_model": None}
    ),
    "ensemble": Arrangement(
        changes={
            "reward__members": 2,
            "rl__rewards": [
                {"name": "judges", "kind": "ensemble", "paths": ["stage:reward", "stage:reward/member-2/model"]}
            ],
        }
    ),
    "replicated": Arrangement(2, {"processes": 2, "distributed": "replicated"}),
    "fsdp2": Arrangement(2, {"processes": 2, "distributed": "fsdp2"}),
}


def with_needed(stages: list[str]) -> list[str]:
    """Return these stages and all that they need, in the order in which they run."""
    wanted = {*stages}
    for stage in reversed(NEEDED):
        wanted |= {*NEEDED[stage]} if stage in wanted else set()
    return [stage for stage in NEEDED if stage in wanted]


def write_recipe(folder: Path, arrangement: Arrangement, stages: list[str]) -> Path:
    """Write the recipe of an arrangement with these stages, and its data; return its path."""
    evaluate = {
        "models": {"sft": "stage:sft", "rl": "stage:rl"},
        "baseline": "sft",
        "prompts": {"sources": [str(folder / "demonstrations.jsonl")], "held_out_fraction": 0.5},
        "rewards": [{"name": "preference", "kind": "model", "path": "stage:reward"}],
        "generation": {"max_new_tokens": 4},
        "max_prompts": 8,
        "best_of": [2],
        "samples": 2,
    }
    changes: dict[str, Any] = {"evaluate": evaluate, "report": {}} | arrangement.changes
    left_out: dict[str, Any] = {stage: None for stage in NEEDED if stage not in with_needed(stages)}
    kept = {key: value for key, value in changes.items() if key.partition("__")[0] not in left_out}
    return tiny_recipe(folder, **kept | left_out)
