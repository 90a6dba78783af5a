"""The commands as Python functions: ``plaudit.rl("recipe.yaml", "rl.kl.coefficient=0.1")`` is ``plaudit rl …``.

Each takes a recipe and overrides, see ``load_recipe``, and returns the run. The same call resumes an interrupted run.
Bad input raises plaudit.errors.PlauditError.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any, Protocol

from plaudit.config.load import RecipeSource, load_recipe
from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError, errors_of_the_system
from plaudit.log import new_console, show_messages_by_default
from plaudit.plugins import errors_of_user_code
from plaudit.registries.stages import STAGES
from plaudit.runs.run import Run

if TYPE_CHECKING:
    from plaudit.runs.session import OnMetrics


class StageCall(Protocol):
    """A function that runs one stage of a recipe."""

    def __call__(
        self,
        recipe: RecipeSource,
        *overrides: str | Mapping[str, Any],
        restart: bool = False,
        on_metrics: "OnMetrics | None" = None,
    ) -> Run:
        """Run the stage and return the run; ``restart`` first removes its results. See ``run``."""


def run(
    recipe: RecipeSource,
    *overrides: str | Mapping[str, Any],
    restart: bool = False,
    only: str | Sequence[str] = (),
    on_metrics: "OnMetrics | None" = None,
    confirm: Callable[[str], bool] = lambda _: True,
) -> Run:
    """Run all stages of a recipe, or only some, and return the run.

    Args:
        recipe: a YAML file, the name of a shipped recipe, a dictionary of keys and values, or a ``Recipe``. In a
            dictionary, a reward may be a function, a model may be a pair of model and tokenizer of transformers, and a
            data source may be a list of dictionaries, a ``datasets.Dataset`` or a pandas ``DataFrame``.
        overrides: texts such as ``"rl.iterations=50"``, or dictionaries such as ``{"rl.iterations": 50}``.
        restart: first remove the results of all stages or, with ``only``, of these and what was computed from them.
            They are kept in the run's folder ``.trash`` until the next success.
        only: a stage or several.
        on_metrics: a function that the main process calls with the stage's name and each new line of metrics, for
            example to plot them or to stop the run with an exception.
        confirm: gets a sentence with the names of the results that ``restart`` removes; false stops the call.
    """
    show_messages_by_default()
    with errors_of_the_system(), errors_of_user_code():
        only = [only] if isinstance(only, str) else list(only)
        return _run(load_recipe(recipe, overrides), restart, only, on_metrics, confirm)


def _run(
    loaded: Recipe,
    restart: bool,
    only: Sequence[str],
    on_metrics: "OnMetrics | None",
    confirm: Callable[[str], bool],
) -> Run:
    from plaudit.runner import run as run_recipe

    present = loaded.sections()
    if not present:
        raise PlauditError(
            f"{loaded.name}: this recipe has no stages; add at least one of these sections: {', '.join(STAGES)}"
        )
    for name in only:
        # The registry raises an error with the nearest name for a name that is not a stage at all.
        if STAGES[name].name not in present:
            raise PlauditError(
                f"{loaded.name}: this recipe has no section {name}; add it, or choose one of: {', '.join(present)}"
            )
    return Run(run_recipe(loaded, only or None, restart, on_metrics, confirm))


if TYPE_CHECKING:
    world: StageCall
    pretrain: StageCall
    sft: StageCall
    reward: StageCall
    dpo: StageCall
    rl: StageCall
    evaluate: StageCall
    report: StageCall
else:

    def __getattr__(name: str) -> StageCall:
        """Return the function that runs only the stage of this name: ``plaudit.api.sft(recipe)``."""
        if name not in STAGES:
            raise AttributeError(f"module 'plaudit.api' has no attribute {name!r}")

        def run_stage(
            recipe: RecipeSource,
            *overrides: str | Mapping[str, Any],
            restart: bool = False,
            on_metrics: "OnMetrics | None" = None,
        ) -> Run:
            return run(recipe, *overrides, restart=restart, only=name, on_metrics=on_metrics)

        run_stage.__name__ = name
        run_stage.__doc__ = (
            f"{STAGES[name].help}\n\n``restart`` first removes its results and what was computed from them."
        )
        return run_stage


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
    """Chat with a run, a model folder or a hub model in the terminal.

    ``best_of`` candidates are sampled per turn, scored by the run's reward model and by ``rewards``; ``sampling`` may
    contain temperature, top_p and max_new_tokens; the defaults are the run's.
    """
    from plaudit.serving.targets import find_target, open_chat_model
    from plaudit.serving.terminal import Terminal, typed_lines

    console = new_console()
    with errors_of_the_system(), errors_of_user_code():
        found = find_target(target)
        settings = found.chat_settings(best_of, seed, plain, sampling)
        with closing(open_chat_model(found, settings, list(rewards), device)) as chat_model:
            console.print(f"Talking to {found.model}. /help lists commands.", style="dim", markup=False, soft_wrap=True)
            Terminal(chat_model, console).converse(typed_lines())
