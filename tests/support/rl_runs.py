"""Trainers and whole runs of reinforcement learning on the models of a tiny recipe's earlier stages."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from plaudit.config.load import load_recipe
from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.runner import run
from plaudit.runs.directory import RunDirectory
from plaudit.runs.jsonl import read_json_lines
from plaudit.runs.session import start_session
from plaudit.stages.training import build_trainer
from plaudit.training.loop import Trainer


def trainer(folder: Path, *overrides: str) -> Trainer[Any]:
    """Return the trainer of reinforcement learning before its first step."""
    recipe = load_fitting(folder / "recipe.yaml", overrides)
    return build_trainer(start_session(recipe, RunDirectory(folder / "runs/tiny")), "rl")


def rl_metrics(folder: Path, name: str, *overrides: str) -> list[dict[str, Any]]:
    """Run RL as a separate run on the earlier stages' models and return the lines of its iterations."""
    base = folder / "runs/tiny"
    places = [f"rl.model={base}/sft/model", f"rl.rewards.0.path={base}/reward/model"]
    without = [f"{stage}=null" for stage in ("pretrain", "sft", "reward", "dpo")]
    options = [*places, "rl.value_model=null", *overrides, *without, f"name={name}"]
    path = run(load_fitting(folder / "recipe.yaml", options))
    return [line for line in read_json_lines(path / "rl/metrics.jsonl") if "kl" in line]


def perturb(model: Any) -> None:
    """Move the policy away from its reference."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def load_fitting(path: Path | str, overrides: Sequence[str] = ()) -> Recipe:
    """Load a recipe, removing (with null) those of its keys that have no effect with the overrides.

    The error messages say what to add; overrides that have no effect themselves stay errors.
    """
    found: list[str] = []
    while True:
        try:
            return load_recipe(str(path), [*overrides, *found])
        except PlauditError as error:
            remedies = re.findall(r"or add (\S+=null)$", str(error), re.MULTILINE)
            if not remedies or set(remedies) <= set(found):
                raise
            found += remedies
