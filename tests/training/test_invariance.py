"""Loss and gradient of every stage do not depend on how the work is split: budget, rows, layout, processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

import stage_trainers
from child_processes import child_environment
from plaudit.config.load import load_recipe
from plaudit.runner import run
from plaudit.training.metric_sums import MetricSums
from stage_trainers import first_step
from tiny_runs import tiny_recipe

STAGES = ("pretrain", "sft", "reward", "dpo", "rl")
SPLITS = {
    "small budget": ["{stage}.token_budget=64"],
    "short rows": ["{stage}.pack_length=24", "{stage}.token_budget=48"],
    "recomputed": ["{stage}.gradient_checkpointing=true"],
    "padded": ["{stage}.model.layout=padded"],
    "padded, small": ["{stage}.model.layout=padded", "{stage}.token_budget=64"],
}


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe whose stages are finished, so that each stage's first step can be taken again."""
    path = tiny_recipe(tmp_path_factory.mktemp("runs"), rl__entropy_coefficient=0.01)
    run(load_recipe(str(path)))
    return path


def assert_same(found: tuple[dict[str, Tensor], MetricSums], expected: tuple[dict[str, Tensor], MetricSums]) -> None:
    gradients, sums = expected
    assert found[0].keys() == gradients.keys()
    largest = max(gradient.abs().max() for gradient in gradients.values())
    assert largest > 1e-3
    for name, gradient in gradients.items():
        torch.testing.assert_close(found[0][name], gradient, rtol=1e-4, atol=float(2e-6 * largest), msg=name)
    assert found[1].means() == pytest.approx(sums.means(), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("split", SPLITS)
def test_one_process(recipe: Path, stage: str, split: str) -> None:
    overrides = [override.format(stage=stage) for override in SPLITS[split]]
    assert_same(first_step(stage, recipe, overrides), first_step(stage, recipe, []))


@pytest.mark.parametrize("weights", ["shared", "adapters"])
def test_weight_arrangements(recipe: Path, weights: str) -> None:
    arrangement = [f"rl.weights={weights}", "rl.value_model=null"]
    assert_same(first_step("rl", recipe, [*arrangement, "rl.token_budget=64"]), first_step("rl", recipe, arrangement))


@pytest.mark.parametrize(
    "options",
    [
        ["rl.advantages=reinforce++", "rl.policy_loss=policy_gradient"],
        ["rl.advantages=reinforce++_baseline", "rl.responses_per_prompt=2"],
        ["rl.advantages=grpo", "rl.responses_per_prompt=2", "rl.policy_loss=gspo", "rl.dynamic_sampling=1"],
        ["rl.weights=shared", "rl.kl={placement: loss, estimator: k2}"],
        ["rl.kl={placement: loss, estimator: k3}", "rl.entropy_coefficient=0.05"],
        ["rl.weights=adapters", "rl.model={path: 'stage:sft', lora: {rank: 2}}"],
    ],
    ids=", ".join,
)
def test_rl_combinations(recipe: Path, options: list[str]) -> None:
    """Each combination has one gradient for every split of the work, which differs from the recipe's own."""
    chosen = ["rl.value_model=null", *options]
    expected, plain = first_step("rl", recipe, chosen), first_step("rl", recipe, [])
    assert_same(first_step("rl", recipe, [*chosen, "rl.token_budget=64", "rl.pack_length=24"]), expected)
    shared = expected[0].keys() & plain[0].keys()
    assert not shared or max(float((expected[0][name] - plain[0][name]).abs().max()) for name in shared) > 1e-3


@pytest.mark.parametrize("loss", ["kto", "plackett_luce", "simpo", "orpo"])
def test_preference_losses(recipe: Path, loss: str) -> None:
    chosen = [f"dpo.loss={loss}"]
    assert_same(first_step("dpo", recipe, [*chosen, "dpo.token_budget=64"]), first_step("dpo", recipe, chosen))


@pytest.fixture(scope="module")
def in_two_processes(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradients")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    script = [stage_trainers.__file__, str(recipe), str(folder), *STAGES]
    done = subprocess.run([*command, *script], env=child_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes(recipe: Path, in_two_processes: Path, stage: str) -> None:
    sums = MetricSums()
    sums.load_state_dict(json.loads((in_two_processes / f"{stage}.json").read_text()))
    assert_same((load_file(in_two_processes / f"{stage}.safetensors"), sums), first_step(stage, recipe, []))
