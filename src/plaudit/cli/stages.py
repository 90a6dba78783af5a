"""``plaudit run`` and a command for each stage of a recipe."""

from collections.abc import Callable
from typing import Annotated

import typer

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe (see `plaudit recipes`).")
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values that replace those of the recipe.")
]
RestartRunOption = Annotated[
    bool, typer.Option("--restart", help="Start over: delete all that the run has made so far, in every stage.")
]
RestartStageOption = Annotated[
    bool, typer.Option("--restart", help="Start this stage over: delete its folder, and no other stage's.")
]

# command: what it does, example
_STAGES = {
    "sft": (
        "Fine-tune a model on prompts and responses: the recipe's stage sft.",
        "plaudit sft quickstart sft.epochs=1",
    ),
    "reward": (
        "Train a reward model from pairs and rankings: the recipe's stage reward.",
        "plaudit reward quickstart reward.loss=best_of_k",
    ),
    "dpo": (
        "Train a policy from comparisons or labels, without a reward model: the recipe's stage dpo.",
        "plaudit dpo mine.yaml dpo.loss=simpo",
    ),
    "rl": (
        "Train a policy against a reward by PPO and its relatives: the recipe's stage rl.",
        "plaudit rl quickstart rl.kl.coefficient=0.1",
    ),
    "evaluate": (
        "Compare models on held-out prompts: the recipe's stage evaluate.",
        "plaudit evaluate quickstart evaluate.max_prompts=100",
    ),
    "report": (
        "Write the HTML page about a run: the recipe's stage report.",
        "plaudit report quickstart report.title='A polite concierge'",
    ),
}


def add_to(app: typer.Typer) -> None:
    """Add ``run`` and the stages' commands to the application."""
    app.command("run", epilog="Example: plaudit run quickstart rl.iterations=50 seed=1")(run)
    for stage, (what, example) in _STAGES.items():
        help_text = f"{what}\n\nIt works in the run's folder."
        app.command(stage, help=help_text, epilog=f"Example: {example}")(_command(stage))


def run(recipe: RecipeArgument, overrides: OverridesArgument = None, restart: RestartRunOption = False) -> None:
    """Run all stages of a recipe.

    The same command continues an interrupted run; finished stages are not repeated.
    """
    from plaudit import api

    api.run(recipe, *(overrides or []), restart=restart)


def _command(stage: str) -> Callable[..., None]:
    def command(
        recipe: RecipeArgument, overrides: OverridesArgument = None, restart: RestartStageOption = False
    ) -> None:
        from plaudit import api

        getattr(api, stage)(recipe, *(overrides or []), restart=restart)

    return command
