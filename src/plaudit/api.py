"""The commands as Python functions: ``plaudit.rl("recipe.yaml", "rl.kl.coefficient=0.1")`` is ``plaudit rl …``.

Each takes a recipe and overrides, see ``load_recipe``, and returns the run. The same call resumes an interrupted run.
Bad input raises plaudit.errors.PlauditError.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from plaudit.config.load import RecipeSource, load_recipe
from plaudit.config.schema import Recipe
from plaudit.errors import Interrupted, PlauditError, Stop, errors_of_the_system
from plaudit.log import new_console, quiet_libraries, show_messages_by_default
from plaudit.plugins import errors_of_user_code, user_code
from plaudit.registries.stages import STAGES
from plaudit.runs.run import Run

OnMetrics = Callable[[str, dict[str, Any]], object]
"""Called with the name of a stage and a line of its metrics, which holds ``step`` and ``seconds`` as well."""


class StageCall(Protocol):
    """A function that runs one stage of a recipe."""

    def __call__(
        self,
        recipe: RecipeSource,
        *overrides: str | Mapping[str, Any],
        restart: bool = False,
        on_metrics: OnMetrics | None = None,
    ) -> Run:
        """Run the stage and return the run.

        Args:
            recipe: as for ``run``.
            overrides: as for ``run``.
            restart: first remove the stage's results and what was computed from them.
            on_metrics: as for ``run``.

        Returns:
            The run.

        Raises:
            PlauditError: bad input, or ``on_metrics`` failed; the run then stops with a checkpoint.
            Interrupted: a signal came, such as Ctrl-C; the same call resumes the run.
        """


def run(
    recipe: RecipeSource,
    *overrides: str | Mapping[str, Any],
    restart: bool = False,
    only: str | Sequence[str] = (),
    on_metrics: OnMetrics | None = None,
    confirm: Callable[[str], bool] = lambda _: True,
) -> Run:
    """Run all stages of a recipe, or only some, and return the run.

    Args:
        recipe: a YAML file, the name of a shipped recipe, a dictionary of keys and values, or a ``Recipe``. In a
            dictionary, a reward, a loss or an advantage estimator may be a function, a model may be a pair of model and
            tokenizer of transformers, and a data source may be a list of dictionaries, a ``datasets.Dataset`` or a
            pandas ``DataFrame``.
        overrides: texts such as ``"rl.iterations=50"``, or dictionaries such as ``{"rl.iterations": 50}``.
        restart: first remove the results of all stages or, with ``only``, of these and what was computed from them.
            They are kept in the run's folder ``.trash`` until the next success.
        only: a stage or several.
        on_metrics: a function that the main process calls with the stage's name and each new line of metrics. If it
            raises ``Stop``, the run stops with a checkpoint, and the unfinished run is returned.
        confirm: gets a sentence with the names of the results that ``restart`` removes; false stops the call.

    Returns:
        The run, which names its folder, its models and its metrics.

    Raises:
        PlauditError: bad input, or ``on_metrics`` failed; the run then stops with a checkpoint.
        Interrupted: a signal came, such as Ctrl-C; the same call resumes the run.
    """
    show_messages_by_default()
    with errors_of_the_system(), errors_of_user_code():
        loaded = load_recipe(recipe, overrides)
        with closing(_lines(loaded, restart, only, confirm)) as lines:
            for stage, line in lines:
                if on_metrics is not None and not _continues(on_metrics, stage, line):
                    break
    return Run(Path(loaded.output) / loaded.name)


def iterate(
    recipe: RecipeSource,
    *overrides: str | Mapping[str, Any],
    restart: bool = False,
    only: str | Sequence[str] = (),
    confirm: Callable[[str], bool] = lambda _: True,
) -> Generator[tuple[str, dict[str, Any]]]:
    """Run a recipe as ``run`` does, as a generator of the lines of metrics.

    Its method ``close``, which ``contextlib.closing`` calls, stops the run with a checkpoint and raises an error if
    that fails. Python also closes a generator after ``break`` or an exception, but it only prints the errors of that
    and goes on. The same call or command resumes the run. With several processes, only the main one enters the loop's
    body.

    Args:
        recipe: as for ``run``.
        overrides: as for ``run``.
        restart: as for ``run``.
        only: a stage or several.
        confirm: as for ``run``.

    Yields:
        The stage's name and a line of its metrics, which holds ``step`` and ``seconds`` as well.

    Raises:
        PlauditError: bad input, or the checkpoint cannot be written.
        Interrupted: a signal came, such as Ctrl-C; the same call resumes the run.
    """
    show_messages_by_default()
    with errors_of_the_system(), errors_of_user_code():
        yield from _lines(load_recipe(recipe, overrides), restart, only, confirm)


def _continues(on_metrics: OnMetrics, stage: str, line: dict[str, Any]) -> bool:
    with user_code("on_metrics", on_metrics):
        try:
            on_metrics(stage, line)
        except Stop:
            return False
    return True


def _lines(
    loaded: Recipe, restart: bool, only: str | Sequence[str], confirm: Callable[[str], bool]
) -> Generator[tuple[str, dict[str, Any]]]:
    from plaudit.runner import iterate as lines_of

    only, present = [only] if isinstance(only, str) else list(only), loaded.sections()
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
    try:
        yield from lines_of(loaded, only or None, restart, confirm)
    except Interrupted as stop:
        if stop.signal_number is not None:
            raise


if TYPE_CHECKING:
    from plaudit.serving.policy import Policy
    from plaudit.serving.reward import Reward

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
            on_metrics: OnMetrics | None = None,
        ) -> Run:
            """Run only this stage."""
            return run(recipe, *overrides, restart=restart, only=name, on_metrics=on_metrics)

        run_stage.__name__ = run_stage.__qualname__ = name
        run_stage.__doc__ = f"{STAGES[name].help}\n\n{StageCall.__call__.__doc__}"
        return run_stage


def load_policy(source: Any, *, device: str | None = None, plain: bool = False, **options: Any) -> "Policy":
    """Load a language model that generates texts.

    Args:
        source: a model folder, a hub name, the folder of a LoRA adapter, the folder or name of a run or a
            ``plaudit.Run`` (its newest policy), or a pair (model, tokenizer) of transformers. Objects are not copied:
            the model is set to evaluation, and made faster without changing its results.
        device: ``cpu``, ``cuda`` or ``mps``; by default the best one that is available, for a pair that of the model.
        plain: continue texts as they are, although the model was trained on prompts in a template or on dialogues.
        options: keys of ``model`` in recipes, such as ``dtype="bfloat16"``, ``quantization="4bit"`` or
            ``trust_remote_code=True``.

    Returns:
        The policy.

    Raises:
        PlauditError: the model cannot be found or loaded, it is a classifier, or an option is not valid.
    """
    from plaudit.serving.loading import open_policy

    show_messages_by_default()
    with errors_of_the_system(), errors_of_user_code(), quiet_libraries():
        return open_policy(source, device, plain, options)


def load_reward(source: Any, *, device: str | None = None, **options: Any) -> "Reward":
    """Load what scores responses; the scores are those that a run would use.

    Args:
        source: the folder or name of a run or a ``plaudit.Run`` (the reward model or ensemble that it trained, without
            one the weighted sum of its ``rewards``); the folder or hub name of a reward model or of any sequence
            classifier, with the label after a colon: ``"folder:LABEL"``; a function of (prompts, responses), also as
            ``"module:name"``; the ``http://`` address of a service; or an entry of ``rewards`` in recipes.
        device: ``cpu``, ``cuda`` or ``mps``; by default the best one that is available.
        options: keys of the entry in recipes, such as ``output="probability"`` or ``scored_text="response"`` of a
            classifier, ``combination="minimum"`` of an ensemble, or ``batch_size``.

    Returns:
        The reward.

    Raises:
        PlauditError: the reward cannot be found or loaded, its label is not given, or an option is not valid.
    """
    from plaudit.serving.loading import open_reward

    show_messages_by_default()
    with errors_of_the_system(), errors_of_user_code(), quiet_libraries():
        return open_reward(source, device, options)


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

    Args:
        target: a run's folder or name, a model folder or a hub name.
        best_of: candidates per turn; they are scored by the run's reward model and by ``rewards``.
        rewards: folders or hub names of reward models.
        plain: continue the typed text as it is, without a prompt template.
        seed: of the samples.
        device: ``cpu``, ``cuda`` or ``mps``; by default the best one that is available.
        sampling: temperature, top_p and max_new_tokens; by default those of the run.

    Raises:
        PlauditError: the target or a reward model cannot be found or loaded, or a setting is not valid.
    """
    from plaudit.serving.targets import find_target, open_chat_model
    from plaudit.serving.terminal import Terminal, typed_lines

    console = new_console()
    with errors_of_the_system(), errors_of_user_code():
        found = find_target(target)
        settings = found.chat_settings(best_of, seed, plain, sampling)
        with quiet_libraries(), closing(open_chat_model(found, settings, list(rewards), device)) as chat_model:
            console.print(f"Talking to {found.model}. /help lists commands.", style="dim", markup=False, soft_wrap=True)
            Terminal(chat_model, console).converse(typed_lines())
