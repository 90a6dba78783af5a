"""The commands as Python functions: ``plaudit.rl("recipe.yaml", "rl.kl.coefficient=0.1")`` is ``plaudit rl …``.

Each takes a recipe file or the name of a shipped recipe and ``key=value`` overrides, and returns the run's folder. The
same call continues an interrupted run; ``restart`` starts over. Bad input raises plaudit.errors.PlauditError.
"""

from collections.abc import Sequence
from pathlib import Path

from plaudit.config.load import load_recipe
from plaudit.config.schema import STAGES, Recipe
from plaudit.errors import PlauditError


def run(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run all stages of the recipe."""
    return _run(load_recipe(recipe, overrides), None, restart)


def sft(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run the recipe's supervised fine-tuning alone."""
    return _run_one("sft", load_recipe(recipe, overrides), restart)


def reward(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Train the recipe's reward model alone."""
    return _run_one("reward", load_recipe(recipe, overrides), restart)


def rl(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run the recipe's reinforcement learning alone."""
    return _run_one("rl", load_recipe(recipe, overrides), restart)


def evaluate(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run the recipe's evaluation alone."""
    return _run_one("evaluate", load_recipe(recipe, overrides), restart)


def report(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Write the recipe's report alone."""
    return _run_one("report", load_recipe(recipe, overrides), restart)


def _run_one(stage: str, recipe: Recipe, restart: bool) -> Path:
    if getattr(recipe, stage) is None:
        present = [name for name in STAGES if getattr(recipe, name) is not None]
        raise PlauditError(f"{recipe.name}: this recipe has no section {stage}; it has {', '.join(present) or 'none'}")
    return _run(recipe, [stage], restart)


def _run(recipe: Recipe, stages: Sequence[str] | None, restart: bool) -> Path:
    from plaudit.runner import run as run_recipe

    return run_recipe(recipe, stages, restart)
