"""The commands as Python functions: ``plaudit.rl("recipe.yaml", "rl.kl.coefficient=0.1")`` is ``plaudit rl …``.

Each takes a recipe file or the name of a shipped recipe and ``key=value`` overrides, and returns the run's folder. The
same call continues an interrupted run. ``restart`` starts over: ``run`` deletes the whole run first, the others their
stage's folder alone. Bad input raises plaudit.errors.PlauditError.
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


def dpo(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run the recipe's direct preference optimisation alone."""
    return _run_one("dpo", load_recipe(recipe, overrides), restart)


def rl(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run the recipe's reinforcement learning alone."""
    return _run_one("rl", load_recipe(recipe, overrides), restart)


def evaluate(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Run the recipe's evaluation alone."""
    return _run_one("evaluate", load_recipe(recipe, overrides), restart)


def report(recipe: str, *overrides: str, restart: bool = False) -> Path:
    """Write the recipe's report alone."""
    return _run_one("report", load_recipe(recipe, overrides), restart)


def chat(
    target: str,
    *,
    best_of: int = 1,
    rewards: Sequence[str] = (),
    plain: bool = False,
    seed: int = 0,
    device: str | None = None,
    **sampling: float,
) -> None:
    """Talk to a run, a model folder or a hub model in the terminal.

    ``best_of`` candidates are sampled per turn, scored by the run's reward model and by ``rewards``; ``sampling`` may
    hold temperature, top_p and max_new_tokens. Default: the run's.
    """
    from rich.console import Console

    from plaudit.serving.targets import find_target, open_chat_model
    from plaudit.serving.terminal import Terminal, typed_lines

    found = find_target(target)
    console = Console(highlight=False)
    chat_model = open_chat_model(found, found.settings(best_of, seed, plain, sampling), list(rewards), device)
    console.print(f"Talking to {found.model}. /help lists commands.", style="dim", markup=False, soft_wrap=True)
    Terminal(chat_model, console).converse(typed_lines())


def _run_one(stage: str, recipe: Recipe, restart: bool) -> Path:
    if getattr(recipe, stage) is None:
        present = [name for name in STAGES if getattr(recipe, name) is not None]
        raise PlauditError(f"{recipe.name}: this recipe has no section {stage}; it has {', '.join(present) or 'none'}")
    return _run(recipe, [stage], restart)


def _run(recipe: Recipe, stages: Sequence[str] | None, restart: bool) -> Path:
    from plaudit.runner import run as run_recipe

    return run_recipe(recipe, stages, restart)
