"""From what the user names (a run, a model folder, a hub name) to someone to talk to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from plaudit.config.load import load_recipe, resolve_stages
from plaudit.config.schema import (
    DataConfig,
    GenerationConfig,
    ModelConfig,
    ModelReward,
    Recipe,
    RewardSourceConfig,
    SourceConfig,
)
from plaudit.errors import PlauditError
from plaudit.serving.chat_model import ChatModel, ChatSettings, Style

RUNS_FOLDER = Recipe.model_fields["output"].default
_POLICY_STAGES = ("rl", "dpo", "sft", "pretrain")  # the furthest trained comes first


@dataclass(frozen=True)
class Target:
    """What was named: the model's folder or hub name, its reward sources, and how its data speak to it."""

    model: str
    rewards: tuple[RewardSourceConfig, ...]
    style: Style
    data: DataConfig
    generation: GenerationConfig

    def settings(self, best_of: int, seed: int, plain: bool, changes: Mapping[str, Any]) -> ChatSettings:
        """Return how to speak to it; ``changes`` replace values of its generation settings."""
        generation = GenerationConfig.model_validate({**self.generation.model_dump(), **changes})
        if plain:
            return ChatSettings("plain", _plain_data(), generation, best_of, seed)
        return ChatSettings(self.style, self.data, generation, best_of, seed)


def find_target(name: str) -> Target:
    """Return what ``name`` means: a run's folder or name, else a model folder, else a hub name.

    Raises PlauditError for a run without a trained model and for a folder that is neither.
    """
    for folder in (Path(name), Path(RUNS_FOLDER) / name):
        if (folder / "config.yaml").is_file():
            return _run_target(folder)
    if Path(name).is_dir() and not any((Path(name) / f"{kind}config.json").is_file() for kind in ("", "adapter_")):
        raise PlauditError(f"{name}: neither a run (no config.yaml) nor a model (no config.json); give one of them")
    return Target(name, (), "dialogue", _plain_data(), GenerationConfig())


def open_chat_model(
    target: Target, settings: ChatSettings, rewards: Sequence[str] = (), device: str | None = None
) -> ChatModel:
    """Load the model and the reward models: the target's own first, then ``rewards`` (folders, runs or hub names)."""
    import torch

    from plaudit.models.loading.models import load_policy
    from plaudit.rewards.sources import build_reward
    from plaudit.rollouts.engines.transformers import TransformersEngine

    place = torch.device(_available(device))
    loaded = load_policy(_model_config(target.model), place)
    reward = build_reward([*target.rewards, *_named(rewards, [source.name for source in target.rewards])], place)
    return ChatModel(loaded, TransformersEngine(loaded), reward, settings)


def _run_target(folder: Path) -> Target:
    recipe = load_recipe(str(folder / "config.yaml"))
    trained = [stage for stage in _POLICY_STAGES if (folder / stage / "model").is_dir()]
    if not trained:
        raise PlauditError(
            f"{folder}: no stage has produced a model yet; finish the run with: plaudit run {recipe.name}"
        )
    section = resolve_stages(recipe, folder)
    if section.rl is not None:
        data = section.rl.prompts
    elif section.dpo is not None:
        data = section.dpo.data
    elif section.sft is not None:
        data = section.sft.data
    else:
        data = _plain_data()
    return Target(
        model=str(folder / trained[0] / "model"),
        rewards=_run_rewards(section, folder),
        style=_style(recipe, trained[0], data),
        data=data.model_copy(update={"max_prompt_tokens": None, "max_response_tokens": None}),
        generation=_chat_generation(section),
    )


def _run_rewards(recipe: Recipe, folder: Path) -> tuple[RewardSourceConfig, ...]:
    """Return the run's reward model, or where it trained none, what its RL stage was rewarded by."""
    model = folder / "reward" / "model"
    if model.is_dir():
        return (ModelReward(name="reward", path=str(model)),)
    return tuple(recipe.rl.rewards) if recipe.rl is not None else ()


def _chat_generation(recipe: Recipe) -> GenerationConfig:
    """Return the RL stage's settings without its rules on length: they serve training, a reply may end when it will."""
    if recipe.rl is None:
        return GenerationConfig()
    return recipe.rl.generation.model_copy(update={"min_new_tokens": 0, "random_length": False})


def _style(recipe: Recipe, stage: str, data: DataConfig) -> Style:
    """A pre-trained model continues text; a prompt template, and the embedded world, are made for single prompts."""
    if stage == "pretrain":
        return "plain"
    single = recipe.world is not None or data.prompt_template != DataConfig.model_fields["prompt_template"].default
    return "prompt" if single else "dialogue"


def _named(paths: Sequence[str], taken: Sequence[str]) -> list[ModelReward]:
    """Return reward models named by their folder, or by the whole path where two would share that name."""
    short = [([part for part in Path(path).parts if part != "model"] or [path])[-1] for path in paths]
    names = [path if [*taken, *short].count(name) > 1 else name for name, path in zip(short, paths, strict=True)]
    return [ModelReward(name=name, path=_reward_model(path)) for name, path in zip(names, paths, strict=True)]


def _reward_model(path: str) -> str:
    """Return the folder of a run's reward model if ``path`` is a run, else ``path``."""
    model = Path(path) / "reward" / "model"
    return str(model) if model.is_dir() else path


def _plain_data() -> DataConfig:
    return DataConfig(sources=[SourceConfig(path="the terminal")])


def _model_config(path: str) -> ModelConfig:
    """Chatting pads nothing that counts, so a tokenizer that names no padding token may pad with its end token."""
    from transformers import AutoTokenizer

    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError):
        return ModelConfig(path=path)  # loading the model says what is wrong
    pad_token = None if tokenizer.pad_token else tokenizer.eos_token
    return ModelConfig(path=path, pad_token=pad_token)


def _available(device: str | None) -> str:
    """Return the chosen device if it is there, or the best there is."""
    import torch

    there = ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available() + ["cpu"]
    if device is not None and device not in there:
        raise PlauditError(f"device {device} is not available here; choose one of: {', '.join(there)}")
    return device or there[0]
