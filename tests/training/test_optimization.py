import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.config.schema import OptimizerConfig
from plaudit.training.optimization import (
    ParameterGroup,
    build_optimizer,
    learning_rate_factor,
    set_learning_rate,
)

# Schedule -------------------------------------------------------------------------------------------------------------


def factors(total: int, schedule: str, warmup: float, final: float) -> list[float]:
    end = {} if schedule == "constant" else {"final_fraction": final}
    config = OptimizerConfig.model_validate({"schedule": schedule, "warmup_fraction": warmup, **end})
    return [learning_rate_factor(step, total, config) for step in range(total)]


def test_warm_up_then_constant_by_hand() -> None:
    assert factors(8, "constant", 0.375, 0.1) == [1 / 4, 2 / 4, 3 / 4, 1, 1, 1, 1, 1]


def test_warm_up_then_linear_by_hand() -> None:
    assert factors(6, "linear", 1 / 6, 0.2) == pytest.approx([0.5, 1.0, 0.8, 0.6, 0.4, 0.2])


def test_cosine_by_hand() -> None:
    half = math.sqrt(0.5)
    expected = [1.0, 0.1 + 0.9 * (1 + half) / 2, 0.55, 0.1 + 0.9 * (1 - half) / 2, 0.1]
    assert factors(5, "cosine", 0.0, 0.1) == pytest.approx(expected)


def test_a_single_step_has_the_peak_rate() -> None:
    assert factors(1, "cosine", 0.05, 0.0) == [1.0]


@given(
    total=st.integers(1, 200),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    warmup=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_the_rate_rises_from_above_zero_to_the_peak_and_falls_to_its_end(
    total: int, schedule: str, warmup: float, final: float
) -> None:
    values = factors(total, schedule, warmup, final)
    warmup_steps = round(warmup * total)
    assert values[0] > 0
    assert all(0 <= value <= 1 for value in values)
    assert values[:warmup_steps] == sorted(values[:warmup_steps])
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values[warmup_steps:]))
    if warmup_steps < total:
        assert values[warmup_steps] == pytest.approx(1.0)
    if warmup_steps < total - 1 and schedule != "constant":
        assert values[-1] == pytest.approx(final)


def test_after_the_last_step_the_rate_stays() -> None:
    config = OptimizerConfig.model_validate({"schedule": "linear", "final_fraction": 0.3})
    assert learning_rate_factor(150, 100, config) == pytest.approx(0.3)


# Optimizer ------------------------------------------------------------------------------------------------------------


def test_only_matrices_decay_and_each_group_has_its_rate() -> None:
    policy = torch.nn.Sequential(torch.nn.Embedding(5, 4), torch.nn.Linear(4, 4), torch.nn.LayerNorm(4))
    value = torch.nn.Linear(4, 1)
    value.bias.requires_grad_(False)
    config = OptimizerConfig.model_validate({"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-6})
    groups = [
        ParameterGroup(list(policy.named_parameters()), 1e-3),
        ParameterGroup(list(value.named_parameters()), 5e-3),
    ]
    optimizer = build_optimizer(groups, config)
    found = [
        (group["lr"], group["weight_decay"], sorted(tuple(parameter.shape) for parameter in group["params"]))
        for group in optimizer.param_groups
    ]
    assert found == [(1e-3, 0.1, [(4, 4), (5, 4)]), (1e-3, 0.0, [(4,), (4,), (4,)]), (5e-3, 0.1, [(1, 4)])]
    assert all(group["betas"] == (0.8, 0.95) and group["eps"] == 1e-6 for group in optimizer.param_groups)
    for _ in range(2):
        set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [5e-4, 5e-4, 2.5e-3]


def test_first_step_by_hand() -> None:
    weight = torch.nn.Parameter(torch.tensor([[2.0]]))
    bias = torch.nn.Parameter(torch.tensor([2.0]))
    config = OptimizerConfig.model_validate({"weight_decay": 0.5})
    optimizer = build_optimizer([ParameterGroup([("weight", weight), ("bias", bias)], 0.1)], config)
    weight.grad, bias.grad = torch.tensor([[-3.0]]), torch.tensor([0.25])
    optimizer.step()
    # Adam's first step is the learning rate times the gradient's sign; decay takes 0.1 · 0.5 of the weight before it.
    assert weight.item() == pytest.approx(2 * 0.95 + 0.1)
    assert bias.item() == pytest.approx(2 - 0.1)
