"""Finds and loads the model to chat with, given a run, a model folder or a hub name."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from plaudit.config.load import load_recipe
from plaudit.config.schema import (
    DataConfig,
    EnsembleReward,
    GenerationConfig,
    ModelConfig,
    ModelReward,
    Recipe,
    RewardSourceConfig,
    SourceConfig,
)
from plaudit.config.sections import checked_section
from plaudit.data.prompt_record import read_record
from plaudit.errors import PlauditError
from plaudit.hub import is_on_hub
from plaudit.registries.stages import STAGES
from plaudit.runs.directory import RunDirectory
from plaudit.serving.chat_model import ChatModel, ChatSettings
from plaudit.serving.prompts import Style

logger = logging.getLogger(__name__)

SHOWN_RUNS = 8
MOST_CANDIDATES = 1000
"""Limit of candidates per turn of a chat: more would keep the user waiting."""
RUNS_FOLDER = Recipe.model_fields["output"].default


@dataclass(frozen=True)
class Target:
    """A model to chat with: its folder or hub name, its reward sources, and its prompt format."""

    model: str
    rewards: tuple[RewardSourceConfig, ...]
    style: Style
    data: DataConfig
    generation: GenerationConfig

    def chat_settings(self, best_of: int, seed: int, plain: bool, changes: Mapping[str, Any]) -> ChatSettings:
        """Return the settings of a chat with this model; ``changes`` replace its generation settings."""
        if best_of > MOST_CANDIDATES:
            raise PlauditError(f"--best-of {best_of}: at most {MOST_CANDIDATES:,} candidates per turn; lower it")
        own = self.as_plain() if plain else self
        return ChatSettings(own.style, own.data, self.generation_with(changes), best_of, seed)

    def generation_with(self, changes: Mapping[str, Any]) -> GenerationConfig:
        """Return the generation settings with ``changes``. Raises PlauditError for a value that none can have."""
        # Validated separately: combined with the changes, some of the run's settings may have no effect.
        checked = checked_section(GenerationConfig, changes)
        return self.generation.model_copy(update={key: getattr(checked, key) for key in changes})

    def as_plain(self) -> "Target":
        """Return the target without a prompt template or turns: the model continues the text as it is."""
        return replace(self, style="plain", data=plain_data())


def find_target(name: str, style: Style = "dialogue") -> Target:
    """Return the target called ``name``: a run's folder or name, else a model folder, else a hub name.

    ``style`` is that of models of which nothing says how their prompts were rendered in training. Raises PlauditError
    for a run without a trained model, for a folder that is neither, and for an unknown name.
    """
    if (run := run_folder(name)) is not None:
        return _run_target(run)
    if Path(name).is_dir() and not _is_model(name):
        raise PlauditError(
            f"{name}: this folder holds neither a run (config.yaml) nor a model (config.json); give the folder of one "
            "of them"
        )
    refuse_unknown(name)
    return as_trained(replace(plain_target(name), style=style))


def refuse_unknown(name: str) -> None:
    """Raise PlauditError, with the nearest runs, for a name that is neither a run's, nor a path, nor a hub model's."""
    if "/" not in name and run_folder(name) is None and not Path(name).exists() and not is_on_hub(name):
        raise PlauditError(f"{name}: no such run or folder, and no hub model that can be loaded; {_runs_like(name)}")


def run_folder(name: str) -> Path | None:
    """Return the folder of the run with this folder or name; None if it is a model's, or there is none."""
    folders = [] if _is_model(name) else [Path(name), Path(RUNS_FOLDER) / name]
    return next((folder for folder in folders if RunDirectory(folder).configuration.is_file()), None)


def _is_model(name: str) -> bool:
    return any((Path(name) / f"{kind}config.json").is_file() for kind in ("", "adapter_"))


def plain_target(name: str) -> Target:
    """Return a model of which nothing says how its prompts were rendered: plain prompts as they are."""
    return Target(name, (), "prompt", plain_data(), GenerationConfig())


def as_trained(target: Target) -> Target:
    """Return a target whose prompts are rendered as in the model's training, if its folder says how."""
    record = read_record(target.model)
    if record is None:
        return target
    style: Style = {"text": "plain", "plain": "prompt", "dialogue": "dialogue"}[record.prompts]  # type: ignore[assignment]
    return replace(target, style=style, data=record.applied_to(target.data))


def _runs_like(name: str) -> str:
    """Return a hint with the nearest runs in the current folder, or all of them."""
    runs = sorted(file.parent.name for file in Path(RUNS_FOLDER).glob("*/config.yaml"))
    if not runs:
        return f"there is no run in {RUNS_FOLDER}/; give the folder of a run or of a model"
    if near := get_close_matches(name, runs, n=3):
        return f"did you mean {' or '.join(near)}?"
    return f"runs in {RUNS_FOLDER}/: {', '.join(runs[:SHOWN_RUNS])}{' …' if len(runs) > SHOWN_RUNS else ''}"


def open_chat_model(
    target: Target, settings: ChatSettings, rewards: Sequence[str] = (), device: str | None = None
) -> ChatModel:
    """Load the model and the reward models: first the target's, then ``rewards`` (folders, runs or hub names).

    The caller closes the chat model.
    """
    import torch

    from plaudit.models.loading.models import is_classifier, load_policy
    from plaudit.parallel.processes import OneProcess
    from plaudit.rewards.sources import build_reward
    from plaudit.rollouts.engines.model_engine import configured_engine

    chosen = torch.device(available_device(device))
    if is_classifier(target.model):
        raise PlauditError(
            f"{target.model}: this is a reward model or classifier, which writes no text; chat with a language model, "
            f"and score its replies with --reward {target.model}"
        )
    for path in rewards:
        refuse_unknown(path)
    sources = [*target.rewards, *named_reward_models(rewards, [source.name for source in target.rewards])]
    loaded = load_policy(ModelConfig(path=target.model), chosen)
    _warn_of_other_prompts(target.model, sources)
    reward = build_reward(sources, chosen)
    with ExitStack() as on_error:
        engine = configured_engine(settings.generation.engine, loaded, OneProcess(chosen))
        on_error.enter_context(closing(engine)).update(0)
        chat_model = ChatModel(loaded, engine, reward, settings)
        on_error.pop_all()  # from now on the chat model closes it
    return chat_model


def _run_target(folder: Path) -> Target:
    recipe = load_recipe(str((run := RunDirectory(folder)).configuration))
    trained = [name for name in reversed(STAGES.names) if _makes(name, "policy") and run.stage(name).model.is_dir()]
    if not trained:
        raise PlauditError(
            f"{folder}: no stage has finished a model yet; continue the run with: plaudit run {run.configuration}"
        )
    # Use the settings of the latest stage that has any, even if it has not run yet.
    stages = [(STAGES[name], section) for name, section in reversed(run.resolve(recipe).sections().items())]
    data = next((data for stage, section in stages if (data := stage.prompts(section))), None) or plain_data()
    generation = next((found for stage, section in stages if (found := stage.generation(section))), GenerationConfig())
    rewards = next((sources for stage, section in stages if (sources := stage.rewards(section))), ())
    target = Target(
        model=str(run.stage(trained[0]).model),
        rewards=trained_rewards(run) or tuple(rewards),
        style=_style(recipe, trained[0], data),
        data=data.model_copy(update={"max_prompt_tokens": None, "max_response_tokens": None}),
        generation=generation,
    )
    return as_trained(target)


def _makes(stage: str, what: str) -> bool:
    return STAGES[stage].makes == what


def trained_rewards(run: RunDirectory) -> tuple[RewardSourceConfig, ...]:
    """Return the reward models that the run has trained; an ensemble is one source, with the mean of its members."""
    trained = [name for name in STAGES if _makes(name, "reward model") and run.stage(name).model.is_dir()]
    return tuple(_trained_reward(name, run) for name in trained)


def _trained_reward(stage: str, run: RunDirectory) -> RewardSourceConfig:
    members = sorted(run.stage(stage).folder.glob("member-*/model"), key=lambda path: int(path.parent.name[7:]))
    if members:
        return EnsembleReward(name=stage, paths=[str(path) for path in members])
    return ModelReward(name=stage, path=str(run.stage(stage).model))


def _style(recipe: Recipe, stage: str, data: DataConfig) -> Style:
    """Return the style: plain text without prompts, single prompts with a prompt template or the embedded world."""
    if STAGES[stage].prompts(recipe.sections()[stage]) is None:
        return "plain"
    single = recipe.world is not None or data.prompt_template != DataConfig.model_fields["prompt_template"].default
    return "prompt" if single else "dialogue"


def named_reward_models(paths: Sequence[str], taken: Sequence[str]) -> list[RewardSourceConfig]:
    """Return reward models named after their folder, or after the whole path if two folders have the same name."""
    short = [([part for part in Path(path).parts if part != "model"] or [path])[-1] for path in paths]
    names = [path if [*taken, *short].count(name) > 1 else name for name, path in zip(short, paths, strict=True)]
    return [_reward_model(name, path) for name, path in zip(names, paths, strict=True)]


def _reward_model(name: str, path: str) -> RewardSourceConfig:
    """Return the reward model that a run has trained if ``path`` is a run or its name, else the model at ``path``.

    Raises PlauditError for a run without one.
    """
    run = run_folder(path)
    trained = trained_rewards(RunDirectory(run or Path(path)))
    if run is not None and not trained:
        raise PlauditError(f"{path}: this run has trained no reward model; name a run that has, or a model")
    return trained[0].model_copy(update={"name": name}) if trained else ModelReward(name=name, path=path)


def plain_data() -> DataConfig:
    """Return settings that render a plain prompt as it is."""
    return DataConfig(sources=[SourceConfig(path="the terminal")])


def _warn_of_other_prompts(model: str, rewards: Sequence[RewardSourceConfig]) -> None:
    """Warn of reward models that were trained on prompts rendered in another way than the model's."""
    own = read_record(model)
    for source in rewards:
        other = read_record(source.path) if isinstance(source, ModelReward) else None
        if own is not None and other is not None and own.prompts != "text" and str(own) != str(other):
            logger.warning("reward model %s was trained on %s, but the model is asked in %s", source.name, other, own)


def available_device(device: str | None) -> str:
    """Return the requested device if it is available, or the best available one."""
    import torch

    available = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if device is not None and device not in available:
        raise PlauditError(f"device {device} is not available here; choose one of: {', '.join(available)}")
    return device or available[0]
