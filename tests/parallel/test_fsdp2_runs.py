"""Weights in shards: the numbers of one process, from two; exact resume; resume with another number of processes."""

import signal
from pathlib import Path

import pytest
import torch

from distributed_runs import (
    STAGES,
    assert_close,
    assert_same_bits,
    metrics,
    start,
    stop_after_two_steps,
    uneven_recipe,
)
from plaudit.config.load import load_recipe
from plaudit.runner import run

ARRANGEMENTS = {
    "shared": ["rl.weights=shared", "rl.value_model=null"],
    "adapters": ["rl.weights=adapters", "rl.value_model=null"],
    "adapters, recomputed": ["rl.model={path: 'stage:sft', lora: {rank: 2}}", "rl.gradient_checkpointing=true"],
    "bf16": ["precision=bf16"],
}


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    start(uneven_recipe(folder), "fsdp2").finish()
    return folder / "runs" / "tiny"


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_as_one_process_does(sharded: Path, alone: Path, stage: str) -> None:
    assert any(line.get("gradient_norm", 0) > 0.3 for line in metrics(alone, stage)), "nothing was clipped"
    assert_close(sharded, alone, stage)


def test_saved_models_load_in_transformers_with_the_logits_of_one_process(sharded: Path, alone: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    tokens = torch.arange(4, 20)[None]
    for auto_class, stage in ((AutoModelForCausalLM, "rl"), (AutoModelForSequenceClassification, "reward")):
        found, expected = (auto_class.from_pretrained(folder / stage / "model") for folder in (sharded, alone))
        with torch.no_grad():
            torch.testing.assert_close(found(tokens).logits, expected(tokens).logits, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_every_arrangement_of_weights_trains_as_one_process_does(alone: Path, tmp_path: Path, arrangement: str) -> None:
    recipe = uneven_recipe(tmp_path)
    models = [f"rl.model.path={alone}/sft/model" if "lora" in arrangement else f"rl.model={alone}/sft/model"]
    options = [
        *[option.replace("stage:sft", f"{alone}/sft/model") for option in ARRANGEMENTS[arrangement]],
        f"rl.rewards.0.path={alone}/reward/model",
        *[f"{stage}=null" for stage in STAGES[:4]],
    ]
    if "lora" not in "".join(options):
        options += models
    if not any(option.startswith("rl.value_model") for option in options):
        options.append(f"rl.value_model={alone}/reward/model")
    expected = run(load_recipe(str(recipe), [*options, "name=alone"]))
    start(recipe, "fsdp2", *options, "name=sharded").finish()
    assert_close(tmp_path / "runs/sharded", expected, "rl", tolerance=0.02 if arrangement == "bf16" else 1e-4)


def test_a_run_that_is_killed_twice_ends_with_the_same_bits(sharded: Path, tmp_path: Path) -> None:
    recipe = uneven_recipe(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    for stage in ("reward", "rl"):
        names = stop_after_two_steps(start(recipe, "fsdp2"), folder / stage)
        shards = {f"shard-{rank}-of-2.safetensors" for rank in (1, 2)}
        assert names == {"task.safetensors", "state.json", "manifest.json"} | shards
    output = start(recipe, "fsdp2").finish()
    assert "rl: continuing after step" in output
    for stage in STAGES:
        assert_same_bits(folder, sharded, stage)


def test_a_run_continues_in_another_number_of_processes(alone: Path, tmp_path: Path) -> None:
    recipe = uneven_recipe(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    stop_after_two_steps(start(recipe, "fsdp2"), folder / "rl", signal.SIGTERM)
    finished = len(metrics(folder, "rl"))
    run(load_recipe(str(recipe)))
    assert 0 < finished < len(metrics(folder, "rl"))
    for stage in STAGES:
        assert_close(folder, alone, stage)
