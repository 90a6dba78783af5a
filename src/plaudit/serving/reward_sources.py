"""Finds what scores responses, given a run, a model, a function, an address, or an entry of a recipe."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from plaudit.config.python_values import plain_recipe
from plaudit.config.schema import (
    ClassifierReward,
    EnsembleReward,
    HttpReward,
    ModelConfig,
    ModelReward,
    RewardSourceConfig,
)
from plaudit.config.schema.rewards import REWARD_KINDS, FunctionReward
from plaudit.config.sections import checked_section
from plaudit.errors import PlauditError
from plaudit.models.adapters.folder import adapter_task
from plaudit.models.loading.limits import stored_configuration
from plaudit.models.loading.models import has_reward_head
from plaudit.models.loading.tokenizer import load_tokenizer
from plaudit.runs.directory import RunDirectory
from plaudit.serving.prompts import Rendering
from plaudit.serving.targets import Target, as_trained, find_target, plain_target, run_folder, trained_rewards

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True)
class FoundReward:
    """Reward sources, whose weighted sum is the score, and the model whose prompts they read, if they need tokens."""

    name: str
    sources: Sequence[RewardSourceConfig]
    reader: Target | None

    def rendering(self) -> Rendering | None:
        """Return how prompts become tokens; None if the sources read text."""
        if self.reader is None:
            return None
        return Rendering(load_tokenizer(ModelConfig(path=self.reader.model)), self.reader.style, self.reader.data)


def found_reward(source: Any, options: Mapping[str, Any]) -> FoundReward:
    """Return the reward that ``source`` names, as ``plaudit.load_reward`` describes it.

    ``options`` are keys of its section. Raises PlauditError if there is none, or for an option that it does not have.
    """
    if isinstance(source, PathLike):
        source = fspath(source)
    if isinstance(source, Mapping):
        return _entry(source, options)
    if isinstance(source, str):
        if re.match("https?://", source):
            return _found(source, _checked(HttpReward, {"name": "reward", "url": source, **options}))
        if (folder := run_folder(source)) is not None:
            return _of_run(folder, options)
        if _FUNCTION.fullmatch(source) and not Path(source.partition(":")[0]).is_dir() and _is_module(source):
            name = source.rpartition(":")[2]
            return _found(source, _checked(FunctionReward, {"name": name, "function": source, **options}))
        return _model(source, options)
    if callable(source):
        return _function(source, options)
    what = "a run, a model folder, a hub name, an address, a function or an entry of `rewards` in recipes"
    raise PlauditError(f"a reward of type {type(source).__name__}: expected {what}")


def _found(name: str, source: RewardSourceConfig) -> FoundReward:
    """Return a single source. Trained reward models read tokens, in the prompts of their own training."""
    path = source.path if isinstance(source, ModelReward) else None
    if isinstance(source, EnsembleReward):
        path = source.paths[0]
    return FoundReward(name, [source], None if path is None else as_trained(plain_target(path)))


def _checked(section: type[Any], values: Mapping[str, Any]) -> Any:
    return checked_section(section, values, "load_reward")


def _entry(entry: Mapping[str, Any], options: Mapping[str, Any]) -> FoundReward:
    plain = plain_recipe({"rl": {"rewards": [dict(entry) | dict(options)]}}, "runs")["rl"]["rewards"][0]
    kind = plain.get("kind")
    if not isinstance(kind, str) or kind not in REWARD_KINDS:
        raise PlauditError(f"load_reward: kind: choose one of {', '.join(REWARD_KINDS)}")
    return _found(str(plain.get("name")), _checked(REWARD_KINDS[kind], {"name": "reward", **plain}))


def _function(function: Callable[..., Any], options: Mapping[str, Any]) -> FoundReward:
    plain = plain_recipe({"rl": {"rewards": [function]}}, "runs")["rl"]["rewards"][0]
    return _found(plain["name"], _checked(FunctionReward, {**plain, **options}))


def _is_module(reference: str) -> bool:
    try:
        return find_spec(reference.partition(":")[0]) is not None
    except ModuleNotFoundError:  # of the package that a dotted name begins with
        return False


def _of_run(folder: Path, options: Mapping[str, Any]) -> FoundReward:
    """Return the reward model that a run has trained; without one, the rewards of its reinforcement learning."""
    if trained := trained_rewards(RunDirectory(folder)):
        kind = type(trained[0])
        return _found(str(folder), _checked(kind, trained[0].model_dump(exclude_unset=True) | dict(options)))
    target = find_target(str(folder), "prompt")
    if not target.rewards:
        raise PlauditError(f"{folder}: this run has no reward model and no rewards; name a run that has")
    if options:
        raise PlauditError(f"{', '.join(options)}: no effect on the rewards of a run; change its recipe instead")
    return FoundReward(str(folder), target.rewards, target)


def _model(path: str, options: Mapping[str, Any]) -> FoundReward:
    """Return a trained reward model, or a classifier with the label after the last colon or in ``options``."""
    folder, colon, label = path.rpartition(":")
    named = bool(colon) and not Path(path).exists()
    if named or not _is_reward_model(path) or "label" in options:
        given = {"label": label} if named else {}
        values = {"name": "reward", "path": folder if named else path, **given, **options}
        return _found(path, _checked(ClassifierReward, values))
    return _found(path, _checked(ModelReward, {"name": "reward", "path": path, **options}))


def _is_reward_model(path: str) -> bool:
    """Return whether a model has a reward model's head: at the last token, with one output."""
    return has_reward_head(path) and (adapter_task(path) is not None or stored_configuration(path).num_labels == 1)
