"""Opens policies and rewards for Python programs and commands."""

from collections.abc import Mapping
from os import PathLike, fspath
from typing import Any

import torch

from plaudit.config.schema import ModelConfig
from plaudit.config.sections import checked_section
from plaudit.data.prompt_record import read_record, remember
from plaudit.errors import PlauditError
from plaudit.models.loading.models import LoadedModel, given_policy, is_classifier, load_policy
from plaudit.models.trunk import unwrapped
from plaudit.rewards.sources import build_reward
from plaudit.serving.policy import Policy
from plaudit.serving.reward import Reward
from plaudit.serving.reward_sources import found_reward
from plaudit.serving.targets import Target, as_trained, available_device, find_target, plain_target


def open_policy(source: Any, device: str | None, plain: bool, options: Mapping[str, Any]) -> Policy:
    """Return the policy of ``plaudit.load_policy``."""
    target, loaded = _given(source, device, options) if isinstance(source, tuple) else _named(source, device, options)
    if (record := read_record(target.model)) is not None:
        remember(loaded.tokenizer, record)
    return Policy(loaded, target.as_plain() if plain else target)


def open_reward(source: Any, device: str | None, options: Mapping[str, Any]) -> Reward:
    """Return the reward of ``plaudit.load_reward``."""
    found = found_reward(source, options)
    return Reward(found.name, build_reward(found.sources, torch.device(available_device(device))), found.rendering())


def _named(source: Any, device: str | None, options: Mapping[str, Any]) -> tuple[Target, LoadedModel]:
    if not isinstance(source, str | PathLike):
        what = "a folder, a hub name, a run, or a pair (model, tokenizer)"
        raise PlauditError(f"a policy of type {type(source).__name__}: expected {what}")
    target = find_target(fspath(source), "prompt")
    config = checked_section(ModelConfig, {"path": target.model, **options}, "load_policy")
    if is_classifier(target.model, config.trust_remote_code):
        raise PlauditError(
            f"{target.model}: this is a reward model or classifier, which writes no text; score with it instead"
        )
    return target, load_policy(config, torch.device(available_device(device)))


def _given(source: tuple[Any, ...], device: str | None, options: Mapping[str, Any]) -> tuple[Target, LoadedModel]:
    if len(source) != 2 or not hasattr(source[0], "parameters") or not hasattr(source[1], "get_vocab"):
        raise PlauditError("a pair must be a model and a tokenizer of transformers: (model, tokenizer)")
    if options:
        raise PlauditError(f"{', '.join(options)}: no effect on a loaded model; leave it out, or give a folder")
    model, tokenizer = source
    inner = unwrapped(model)
    target = as_trained(plain_target(inner.name_or_path or type(inner).__name__))
    return target, given_policy(model, tokenizer, None if device is None else torch.device(available_device(device)))
