"""A finished run, whose models and folders are damaged."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import peft
from transformers import AutoModelForCausalLM

from plaudit.config.load import load_recipe
from plaudit.runner import run
from tiny_runs import tiny_recipe


@dataclass(frozen=True)
class World:
    """A recipe, the folder with its finished run, and a model folder per kind."""

    recipe: str
    runs: Path
    models: dict[str, Path]

    def unfinished_run(self, folder: Path) -> Path:
        """Copy the run to ``folder`` with its last stage unfinished; return the copy."""
        copied = shutil.copytree(self.runs / "tiny", folder / "tiny")
        (copied / "rl" / "result.json").unlink()
        return copied


def make_world(folder: Path) -> World:
    """Train the tiny models."""
    recipe = str(tiny_recipe(folder, dpo=None))
    runs = folder / "runs"
    run(load_recipe(recipe))
    policy, judge = runs / "tiny" / "sft" / "model", runs / "tiny" / "reward" / "model"
    model = AutoModelForCausalLM.from_pretrained(policy)
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj"])
    peft.get_peft_model(model, config).save_pretrained(folder / "adapter")
    return World(recipe, runs, {"policy": policy, "chat": policy, "judge": judge, "adapter": folder / "adapter"})
