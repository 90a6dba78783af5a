"""``plaudit run`` and one command per stage of a recipe."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from plaudit.cli.console import with_output_options
from plaudit.registries.stages import STAGES, WITH_COMMAND

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A YAML file, or a shipped recipe (see `plaudit recipes`).")
]
OverridesArgument = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Values to replace in the recipe.")
]
RestartRunOption = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Start over: first remove all stages or, with --only, these and what was computed from them.",
    ),
]
RestartStageOption = Annotated[
    bool, typer.Option("--restart", help="Start this stage over: first remove it and what was computed from it.")
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask before --restart removes results.")]

OnlyOption = Annotated[
    list[str] | None, typer.Option("--only", metavar="STAGE", help="Run only this stage; repeatable.")
]


def add_to(app: typer.Typer) -> None:
    """Add ``run`` and a command for each stage to the application."""
    app.command("run", epilog="Example: plaudit run quickstart rl.iterations=50 seed=1")(with_output_options(run))
    for name in WITH_COMMAND:
        stage = STAGES[name]
        help_text = f"{stage.help}\n\nRuns the stage {name} of the recipe in the run's folder."
        app.command(name, help=help_text, epilog=f"Example: {stage.example}")(with_output_options(_command(name)))


def run(
    recipe: RecipeArgument,
    overrides: OverridesArgument = None,
    restart: RestartRunOption = False,
    yes: YesOption = False,
    only: OnlyOption = None,
) -> None:
    """Run all stages of a recipe.

    The same command resumes an interrupted run. Finished stages are skipped.
    """
    from plaudit import api

    api.run(recipe, *(overrides or []), restart=restart, only=only or (), confirm=_confirmation(yes))


def _command(stage: str) -> Callable[..., None]:
    def command(
        recipe: RecipeArgument,
        overrides: OverridesArgument = None,
        restart: RestartStageOption = False,
        yes: YesOption = False,
    ) -> None:
        """Run the stage in the run's folder."""
        from plaudit import api

        api.run(recipe, *(overrides or []), restart=restart, only=[stage], confirm=_confirmation(yes))

    return command


def _confirmation(yes: bool) -> Callable[[str], bool]:
    """Return a function that asks at a terminal whether to remove results; elsewhere, or with ``yes``, it agrees."""
    if yes or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return lambda _: True
    return lambda _: typer.confirm("Remove them?", err=True)
