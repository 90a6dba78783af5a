"""Advantage estimators against hand-computed numbers and the defining sums."""

import math
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from padded_batches import Padded, left_aligned, padded_batches, property_test
from plaudit.algorithms.advantages import (
    gae,
    group_centered,
    group_deviation,
    grpo,
    remax,
    returns_to_go,
    rloo,
    spread_over_tokens,
)

NAN = torch.nan


def test_gae_by_hand() -> None:
    # gamma = 0.5, lambda = 0.5, so each step back weighs the next advantage by 0.25.
    # First response, 3 tokens:
    #   delta_2 = 4 - 3 = 1                        A_2 = 1
    #   delta_1 = 2 + 0.5 * 3 - 2 = 1.5            A_1 = 1.5 + 0.25 * 1 = 1.75
    #   delta_0 = 1 + 0.5 * 2 - 1 = 1              A_0 = 1 + 0.25 * 1.75 = 1.4375
    # Second response, 1 token: A_0 = 2 - 5 = -3, regardless of the values after it.
    rewards = torch.tensor([[1.0, 2.0, 4.0], [2.0, NAN, 100.0]])
    values = torch.tensor([[1.0, 2.0, 3.0], [5.0, 100.0, NAN]])
    advantages, returns = gae(rewards, values, left_aligned([3, 1], time=3), gamma=0.5, lambda_=0.5)
    assert_close(advantages, torch.tensor([[1.4375, 1.75, 1.0], [-3.0, 0.0, 0.0]]))
    assert_close(returns, torch.tensor([[2.4375, 3.75, 4.0], [2.0, 0.0, 0.0]]))


@property_test
@given(padded_batches(), st.floats(0, 1), st.floats(0, 1))
def test_gae_equals_the_defining_sum(batch: Padded, gamma: float, lambda_: float) -> None:
    rewards, values = batch.values("rewards"), batch.values("values")
    slow = torch.zeros_like(rewards)
    for row, length in enumerate(batch.lengths):
        value = [*values[row, :length].tolist(), 0.0]
        delta = [rewards[row, t].item() + gamma * value[t + 1] - value[t] for t in range(length)]
        for t in range(length):
            slow[row, t] = sum((gamma * lambda_) ** (k - t) * delta[k] for k in range(t, length))
    advantages, returns = gae(batch.soiled(rewards), batch.soiled(values), batch.mask, gamma, lambda_)
    assert_close(advantages, slow)
    assert_close(returns, slow + values * batch.mask)


@property_test
@given(padded_batches())
def test_lambda_one_is_the_return_to_go_and_lambda_zero_the_temporal_difference(batch: Padded) -> None:
    mask = batch.mask
    rewards, values = batch.values("rewards") * mask, batch.values("values") * mask
    to_go = rewards.flip(1).cumsum(1).flip(1) * mask
    advantages, returns = gae(rewards, values, mask, gamma=1.0, lambda_=1.0)
    assert_close(advantages, to_go - values)
    assert_close(returns, to_go)
    next_values = torch.cat([values[:, 1:], torch.zeros(len(values), 1)], dim=1)
    assert_close(gae(rewards, values, mask, gamma=0.9, lambda_=0.0)[0], (rewards + 0.9 * next_values - values) * mask)


@property_test
@given(padded_batches(), st.integers(1, 4))
def test_gae_does_not_depend_on_the_padding(batch: Padded, extra: int) -> None:
    def padded(tensor: torch.Tensor, filler: float) -> torch.Tensor:
        return torch.cat([tensor, tensor.new_full((len(tensor), extra), filler)], dim=1)

    rewards, values = batch.values("rewards"), batch.values("values")
    wide, _ = gae(padded(rewards, NAN), padded(values, NAN), padded(batch.mask, False), 0.9, 0.8)
    assert_close(wide[:, :-extra], gae(rewards, values, batch.mask, 0.9, 0.8)[0], rtol=0, atol=0)
    assert not wide[:, -extra:].any()


@property_test
@given(st.integers(0, 10**6))
def test_gae_carries_advantages_across_masked_tokens(seed: int) -> None:
    # Masked tokens inside a response are skipped.
    generator = torch.Generator().manual_seed(seed)
    mask = torch.tensor([[True, False, True, True, False, False, True, False]])
    rewards, values = torch.randn(2, 1, 8, generator=generator).unbind()
    dense = gae(rewards[mask][None], values[mask][None], torch.ones(1, 4, dtype=torch.bool), 0.9, 0.8)
    for found, expected in zip(gae(rewards, values, mask, 0.9, 0.8), dense, strict=True):
        assert_close(found[mask][None], expected)
        assert not found[~mask].any()


def test_gae_changes_no_input_and_takes_no_time_steps() -> None:
    rewards, values = torch.full((1, 2), NAN), torch.full((1, 2), NAN)
    gae(rewards, values, left_aligned([0], time=2), 1.0, 0.95)
    assert rewards.isnan().all()
    assert values.isnan().all()
    empty = torch.zeros(2, 0)
    assert gae(empty, empty, empty.bool(), 1.0, 0.95)[0].shape == (2, 0)


def test_rloo_by_hand() -> None:
    # 1 - (2 + 6) / 2 = -3; 2 - (1 + 6) / 2 = -1.5; 6 - (1 + 2) / 2 = 4.5; second group 0 - 3/2 and so on
    scores = torch.tensor([1.0, 2.0, 6.0, 0.0, 3.0, 0.0])
    assert_close(rloo(scores, group_size=3), torch.tensor([-3.0, -1.5, 4.5, -1.5, 3.0, -1.5]))


def test_grpo_by_hand() -> None:
    # Mean 3, squared deviations 4 + 1 + 9 = 14, unbiased standard deviation sqrt(14 / 2) = sqrt(7) = 2.645751;
    # epsilon 0.5: -2 / 3.145751 = -0.635778; -1 / 3.145751 = -0.317889; 3 / 3.145751 = 0.953667
    scores = torch.tensor([1.0, 2.0, 6.0])
    assert_close(grpo(scores, 3, epsilon=0.5), torch.tensor([-0.635778, -0.317889, 0.953667]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("score", [0.0, 0.1, 1e4 + 0.3, -7.7])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_a_group_without_spread_gets_exact_zeros(score: float, size: int) -> None:
    # The rounded mean of three times 0.1 is not 0.1: divided by the standard deviation the remainder is of size 1.
    scores = torch.tensor([score] * size + [1.0, 2.0] + [1.0] * (size - 2))
    assert grpo(scores, size, epsilon=1e-8)[:size].tolist() == [0.0] * size
    assert grpo(scores, size, epsilon=0.0)[:size].tolist() == [0.0] * size
    assert rloo(scores, size)[:size].tolist() == [0.0] * size


def test_spread_as_large_as_rounding_is_none() -> None:
    # The deviation of 1 and 1 + x is x / sqrt 2. It is spread where it exceeds a millionth of the largest score.
    for gap, deviation in ((1e-6, 0.0), (2e-6, 2e-6 / math.sqrt(2))):
        scores = torch.tensor([1.0, 1.0 + gap, -100.0, -100.0 - 100 * gap], dtype=torch.float64)
        expected = [deviation] * 2 + [100 * deviation] * 2
        assert group_deviation(scores, 2).tolist() == pytest.approx(expected, rel=1e-6)
        assert grpo(scores, 2, epsilon=0.0).bool().tolist() == [deviation > 0] * 4


def test_groups_of_one_and_broken_groups_are_refused() -> None:
    for size, message in ((1, "at least 2"), (0, "at least 2"), (2, "multiple of group_size")):
        with pytest.raises(ValueError, match=message):
            rloo(torch.ones(3), size)
        with pytest.raises(ValueError, match=message):
            grpo(torch.ones(3), size, 1e-6)


@property_test
@given(st.integers(2, 5), st.integers(1, 4), st.integers(0, 10**6))
def test_groups_equal_slow_loops(size: int, groups: int, seed: int) -> None:
    scores = torch.randn(size * groups, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    slow_rloo, slow_grpo = [], []
    for group in scores.reshape(groups, size).tolist():
        for i, score in enumerate(group):
            slow_rloo.append(score - statistics.fmean(group[:i] + group[i + 1 :]))
            slow_grpo.append((score - statistics.fmean(group)) / (statistics.stdev(group) + 1e-4))
    assert_close(rloo(scores, size), torch.tensor(slow_rloo, dtype=torch.float64))
    assert_close(grpo(scores, size, 1e-4), torch.tensor(slow_grpo, dtype=torch.float64))
    # Adding a constant to a prompt's scores changes nothing; within a group both sum to zero.
    shift = torch.arange(groups, dtype=torch.float64).repeat_interleave(size)
    assert_close(rloo(scores + shift, size), rloo(scores, size))
    assert_close(grpo(scores, size, 1e-4).reshape(groups, size).sum(1), torch.zeros(groups, dtype=torch.float64))


def test_spread_by_hand() -> None:
    spread = spread_over_tokens(torch.tensor([2.0, -1.0]), left_aligned([2, 3], time=3))
    assert spread.tolist() == [[2, 2, 0], [-1, -1, -1]]


def test_returns_to_go_by_hand() -> None:
    # gamma 0.5: 3 -> 2 + 0.5 * 3 = 3.5 -> 1 + 0.5 * 3.5 = 2.75; the second response has one token.
    rewards, mask = torch.tensor([[1.0, 2.0, 3.0], [4.0, 9.0, 9.0]]), left_aligned([3, 1], time=3)
    assert returns_to_go(rewards, mask, gamma=0.5).tolist() == [[2.75, 3.5, 3.0], [4.0, 0.0, 0.0]]


def test_remax_by_hand() -> None:
    found = remax(torch.tensor([1.0, 2.0, 3.0, 5.0]), torch.tensor([1.5, 4.0]), group_size=2)
    assert found.tolist() == [-0.5, 0.5, -1.0, 1.0]


def test_group_centered_by_hand() -> None:
    # Means 2 and 4; deviations sqrt((1 + 1) / 1) and 0.
    scores = torch.tensor([1.0, 3.0, 4.0, 4.0])
    assert group_centered(scores, 2).tolist() == [-1.0, 1.0, 0.0, 0.0]
    assert group_deviation(scores, 2).tolist() == pytest.approx([math.sqrt(2)] * 2 + [0.0] * 2)
    with pytest.raises(ValueError, match="at least 2"):
        group_centered(scores, 1)
