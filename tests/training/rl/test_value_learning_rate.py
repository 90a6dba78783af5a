"""``rl.value_learning_rate``: the weights that it applies to, in the optimizer's groups and after a step."""

from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.errors import PlauditError
from plaudit.parallel.state import trained_parameters
from plaudit.training.loop import Trainer
from rl_runs import trainer

POLICY_RATE, VALUE_RATE = 0.003, 0.02
SEPARATE_LORA = "rl.model={path: 'stage:sft', lora: {rank: 2}}"
ARRANGEMENTS = {
    "separate": [],
    "separate with adapters": [SEPARATE_LORA],
    "adapters": ["rl.weights=adapters", "rl.value_model=null", SEPARATE_LORA],
}


def is_value(name: str) -> bool:
    """Whether a parameter's name is one of the value function's, spelled out for the tiny llama."""
    return name.startswith(("value.", "value_head.")) or ".lora_A.value." in name or ".lora_B.value." in name


def moved_by_a_step(made: Trainer[Any]) -> dict[str, bool]:
    """Take the first optimizer step; return whether it has changed each parameter."""
    generator = torch.Generator().manual_seed(0)
    parameters = trained_parameters(made.task.module)
    for parameter in parameters.values():
        if not parameter.any():  # an adapter's second matrix and the value head start at zero and pass no gradient on
            torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    before = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    made.gradients.accumulate(made.task.begin_step(1))
    made.strategy.step()
    return {name: not torch.equal(parameter, before[name]) for name, parameter in parameters.items()}


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
def test_the_optimizers_groups(folder: Path, arrangement: str) -> None:
    made = trainer(folder, *ARRANGEMENTS[arrangement], f"rl.value_learning_rate={VALUE_RATE}")
    rates = {id(p): group["lr"] for group in made.strategy.optimizer.param_groups for p in group["params"]}
    found = {name: rates[id(parameter)] for name, parameter in trained_parameters(made.task.module).items()}
    assert found == {name: VALUE_RATE if is_value(name) else POLICY_RATE for name in found}
    assert {VALUE_RATE, POLICY_RATE} == set(found.values())


@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("still", ["policy", "value"])
def test_a_rate_of_zero_keeps_only_its_own_weights(folder: Path, arrangement: str, still: str) -> None:
    rates = (0.0, 0.01) if still == "policy" else (0.01, 0.0)
    options = [f"rl.optimizer.learning_rate={rates[0]}", f"rl.value_learning_rate={rates[1]}"]
    moved = moved_by_a_step(trainer(folder, *ARRANGEMENTS[arrangement], *options))
    for name, has_moved in moved.items():
        assert has_moved == (is_value(name) == (still == "policy")), name


@pytest.mark.parametrize(
    "options",
    [
        ["rl.weights=shared", "rl.value_model=null"],
        ["rl.advantages=rloo", "rl.responses_per_prompt=2", "rl.value_model=null"],
        ["rl.objective=best_of_n", "rl.responses_per_prompt=2", "rl.value_model=null"],
        ["rl.weights=adapters", "rl.value_model=null", "rl.advantages=reinforce++", SEPARATE_LORA],
    ],
    ids=lambda options: options[0],
)
def test_refused_without_separate_value_weights(folder: Path, options: list[str]) -> None:
    trainer(folder, *options)
    with pytest.raises(PlauditError, match=r"rl\.value_learning_rate"):
        trainer(folder, *options, "rl.value_learning_rate=0.01")
