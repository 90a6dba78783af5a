"""The estimators of the catalogue by hand: advantages, returns, and the divisors of the rewards."""

import math

import pytest
import torch
from torch.testing import assert_close

from plaudit.algorithms.catalogue import ADVANTAGES
from plaudit.algorithms.estimators import AdvantageInputs, Advantages, grpo_estimate
from plaudit.plugins import import_function

# Two prompts with two responses each; totals 3, 1 and 4, 4. The second response has one token.
INPUTS = AdvantageInputs(
    rewards=torch.tensor([[1.0, 2.0], [1.0, 0.0], [4.0, 0.0], [1.0, 3.0]], dtype=torch.float64),
    values=torch.tensor([[2.0, 1.0], [3.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64),
    mask=torch.tensor([[True, True], [True, False], [True, True], [True, True]]),
    group_size=2,
    gamma=0.5,
    gae_lambda=0.5,
    greedy_scores=torch.tensor([1.0, 5.0], dtype=torch.float64),
)


def estimate(name: str) -> Advantages:
    found: Advantages = import_function(ADVANTAGES[name].function, name)(INPUTS)
    return found


def test_gae() -> None:
    # delta of the last tokens: 2 - 1 = 1, 1 - 3 = -2, 0 - 2 = -2, 3 - 1 = 2.
    # delta of the first tokens: 1 + 0.5 * 1 - 2 = -0.5, 4 + 0.5 * 2 - 0 = 5, 1 + 0.5 * 1 - 1 = 0.5, plus 0.25 times
    # the next advantage: -0.25, 4.5, 1.
    found = estimate("gae")
    assert found.advantages.tolist() == [[-0.25, 1], [-2, 0], [4.5, -2], [1, 2]]
    assert found.returns.tolist() == [[1.75, 2], [1, 0], [4.5, 0], [2, 3]]
    assert found.scale.tolist() == [1] * 4


@pytest.mark.parametrize(
    "name, advantages",
    [
        ("reinforce++", [[2, 2], [1, 0], [4, 0], [2.5, 3]]),  # r_0 + 0.5 r_1, r_1
        ("rloo", [[2, 2], [-2, 0], [0, 0], [0, 0]]),
        ("dr_grpo", [[1, 1], [-1, 0], [0, 0], [0, 0]]),
        ("reinforce++_baseline", [[1, 1], [-1, 0], [0, 0], [0, 0]]),
        ("remax", [[2, 2], [0, 0], [-1, -1], [-1, -1]]),
    ],
)
def test_estimators_without_values(name: str, advantages: list[list[float]]) -> None:
    found = estimate(name)
    assert found.advantages.tolist() == advantages
    assert not found.returns.any()
    assert found.returns.shape == (4, 2)
    assert found.scale.tolist() == [1] * 4


def test_grpo_divides_by_the_deviation_and_discards_groups_without_spread() -> None:
    # Deviation sqrt((1 + 1) / 1); 1e-6 is added to it.
    found, divisor = estimate("grpo"), math.sqrt(2) + 1e-6
    expected = torch.tensor([[1, 1], [-1, 0], [0, 0], [0, 0]], dtype=torch.float64) / divisor
    assert_close(found.advantages, expected, rtol=1e-12, atol=0)
    assert found.scale.tolist() == [pytest.approx(divisor, rel=1e-12)] * 2 + [math.inf] * 2
    assert not found.returns.any()


def test_the_scale_of_grpo_turns_centered_rewards_into_advantages() -> None:
    # Deviations of exactly 1 and of 0: half of the gap of sqrt 2 is 1 / sqrt 2.
    rewards = torch.tensor([[0.0], [math.sqrt(2)], [3.0], [3.0]], dtype=torch.float64)
    inputs = AdvantageInputs(rewards, torch.zeros(4, 1), torch.ones(4, 1, dtype=torch.bool), 2, 1.0, 1.0)
    found = grpo_estimate(inputs)
    centered = rewards - rewards.reshape(2, 2).mean(1).repeat_interleave(2)[:, None]
    assert_close(found.advantages, centered / found.scale[:, None], rtol=1e-12, atol=0)
    assert found.scale.tolist() == [pytest.approx(1.000001, rel=1e-12)] * 2 + [math.inf] * 2
