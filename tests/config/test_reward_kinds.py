"""Reward sources are written by kind: wrong keys name the right ones, and plugins add kinds."""

import sys
from pathlib import Path

import pytest
import torch

from plaudit.config.load import dump, load_recipe
from plaudit.config.schema import REWARD_KINDS, ClassifierReward, ModelReward, RewardSourceConfig
from plaudit.errors import PlauditError
from plaudit.rewards.sources import build_reward
from plaudit.rollouts.samples import Sample

PLUGIN = """
import torch
from pydantic import Field
from typing import ClassVar, Literal
from plaudit.config.schema import REWARD_KINDS, RewardSourceConfig


class BrevityReward(RewardSourceConfig):
    source: ClassVar[str] = "brevity_plugin:BrevitySource"
    kind: Literal["brevity"] = Field("brevity", description="short responses")
    limit: int = Field(description="words that cost nothing")


class BrevitySource:
    def __init__(self, config):
        self.name, self.limit = config.name, config.limit

    @classmethod
    def load(cls, config, device):
        return cls(config)

    def score(self, samples):
        return torch.tensor([float(min(0, self.limit - len(sample.response_text.split()))) for sample in samples])


REWARD_KINDS.register("brevity", BrevityReward)
"""
RECIPE = """
name: trial
plugins: [brevity_plugin]
rl:
  model: somewhere
  prompts: {sources: [prompts.jsonl]}
  rewards:
    - {name: short, kind: brevity, limit: 2, weight: 3}
"""


def loaded(*overrides: str) -> list[RewardSourceConfig]:
    recipe = load_recipe("stories", list(overrides))
    assert recipe.rl is not None
    return recipe.rl.rewards


def problem(*overrides: str) -> str:
    with pytest.raises(PlauditError) as caught:
        loaded(*overrides)
    return str(caught.value)


@pytest.mark.parametrize(
    "override, parts",
    [
        ("rl.rewards.0.kind=modl", ["expected model, ensemble, classifier, function or http", "did you mean model?"]),
        ("rl.rewards=[{name: a}]", ["rl.rewards.0.kind: required", "model, ensemble"]),
        ("rl.rewards=[{name: a, kind: http}]", ["rl.rewards.0.url: required"]),
        ("rl.rewards.0.url=http://a", ["unknown key", "belongs to http", "kind=function has function"]),
        (
            "rl.rewards=[{name: a, kind: http, url: 'http://b', path: c}]",
            ["rl.rewards.0.path: unknown key", "kind=http has url, timeout"],
        ),
        ("rl.rewards.0.functin=a:b", ["unknown key", "did you mean function?"]),
        ("rl.rewards=[7]", ["rl.rewards.0: expected keys and values (in Python also a function), not 7"]),
        ("rl.rewards=[{name: a, kind: ensemble, paths: [one]}]", ["rl.rewards.0.paths", "at least 2"]),
        (
            "rl.rewards=[{name: a, kind: ensemble, paths: [b, c], penalty: 2}]",
            ["rl.rewards.0.penalty: has no effect with combination=mean; remove it"],
        ),
        ("rl.rewards=[{name: a, kind: model, path: b, dtype: int4}]", ["rl.rewards.0.dtype", "float32, bfloat16"]),
    ],
)
def test_mistakes_name_the_place_and_the_remedy(override: str, parts: list[str]) -> None:
    message = problem(override)
    assert message.startswith(f"{override}: ")
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_models_may_be_held_in_fewer_bits() -> None:
    judge, mood = loaded(
        "rl.rewards=[{name: judge, kind: model, path: a, dtype: bfloat16, quantization: 4bit}, "
        "{name: mood, kind: classifier, path: b, dtype: float16}]"
    )
    assert isinstance(judge, ModelReward)
    assert isinstance(mood, ClassifierReward)
    model, classifier = judge.model_at(judge.path), mood.model_at(mood.path)
    assert (model.path, model.dtype, model.quantization) == ("a", "bfloat16", "4bit")
    assert (classifier.path, classifier.dtype, classifier.quantization) == ("b", "float16", None)


def test_a_plugin_adds_a_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "brevity_plugin.py").write_text(PLUGIN)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    try:
        recipe = load_recipe(str(tmp_path / "recipe.yaml"))
        assert recipe.rl is not None
        reward = build_reward(recipe.rl.rewards, torch.device("cpu"))
        samples = [Sample((1,), (2,), "a", text, True) for text in ("b", "b c d e")]
        assert reward.score(samples).total.tolist() == [0.0, -6.0]
        (tmp_path / "again.yaml").write_text(dump(recipe))
        assert load_recipe(str(tmp_path / "again.yaml")) == recipe
        with pytest.raises(PlauditError, match=r"limt=3: unknown key; did you mean limit\?"):
            load_recipe(str(tmp_path / "recipe.yaml"), ["rl.rewards.0.limt=3"])
    finally:
        REWARD_KINDS.unregister("brevity")
        sys.modules.pop("brevity_plugin", None)
