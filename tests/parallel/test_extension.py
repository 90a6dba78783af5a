"""A strategy registered from outside: every stage trains with it to the same bits, and resumes from its checkpoints."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from plaudit.config.load import load_recipe
from plaudit.config.schema.distribution import STRATEGIES
from plaudit.runner import run
from tiny_runs import tiny_recipe

STAGES = ("pretrain", "sft", "reward", "dpo", "rl")
ARRANGEMENTS = {
    "separate": [],
    "shared": ["rl.weights=shared", "rl.value_model=null"],
    "adapters": ["rl.weights=adapters", "rl.value_model=null"],
}


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    STRATEGIES.register("poisoned", "poisoned_strategy:PoisonedConfig")
    yield
    STRATEGIES.unregister("poisoned")


def outcome(folder: Path, stage: str) -> tuple[dict[str, torch.Tensor], list[dict[str, float]]]:
    lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    metrics = [{key: value for key, value in line.items() if key != "seconds"} for line in lines]
    return load_file(folder / stage / "model" / "model.safetensors"), metrics


def assert_same_bits(found: Path, expected: Path, stage: str) -> None:
    weights, metrics = outcome(found, stage)
    expected_weights, expected_metrics = outcome(expected, stage)
    assert metrics == expected_metrics
    assert weights.keys() == expected_weights.keys()
    assert all(torch.equal(weights[name], weight) for name, weight in expected_weights.items())
    # Among the closing numbers are those of the reward model's held-out scores.
    results = [json.loads((folder / stage / "result.json").read_text()) for folder in (found, expected)]
    assert results[0] | {"seconds": 0} == results[1] | {"seconds": 0}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_stage_ends_with_the_same_bits(tmp_path: Path, arrangement: str) -> None:
    recipe, overrides = str(tiny_recipe(tmp_path)), ARRANGEMENTS[arrangement]
    stages = STAGES if arrangement == "separate" else ("pretrain", "sft", "reward", "rl")
    expected = run(load_recipe(recipe, overrides), stages)
    found = run(load_recipe(recipe, [*overrides, "name=poisoned", "distributed=poisoned"]), stages)
    for stage in stages:
        assert_same_bits(found, expected, stage)
    assert not any(weight.isnan().any() for weight in outcome(found, "rl")[0].values())

    # Once more from the second newest checkpoint, whose files are the strategy's.
    checkpoint = sorted((found / "rl" / "checkpoints").iterdir())
    assert {path.stem for path in checkpoint[0].glob("*.safetensors")} == {"kept", "moments", "task"}
    shutil.rmtree(checkpoint[-1])
    shutil.rmtree(found / "rl" / "model")
    (found / "rl" / "result.json").unlink()
    run(load_recipe(recipe, [*overrides, "name=poisoned", "distributed=poisoned"]), stages)
    assert_same_bits(found, expected, "rl")
