"""Token rewards and the treatment of scores."""

import json
import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from padded_batches import Padded, left_aligned, padded_batches, property_test
from plaudit.algorithms.masking import ROUNDING
from plaudit.algorithms.rewards import (
    RunningMoments,
    clip_scores,
    penalize_missing_end,
    soft_overlong_penalty,
    token_rewards,
)


def test_token_rewards_by_hand() -> None:
    # -0.1 * 2 = -0.2; -0.1 * -1 = 0.1, and the score 5 at the last real token: 5.1. Second: -0.1 * 3 - 2 = -2.3.
    kl = torch.tensor([[2.0, -1.0, torch.nan], [3.0, torch.inf, 9.0]])
    rewards = token_rewards(torch.tensor([5.0, -2.0]), kl, left_aligned([2, 1], time=3), coefficient=0.1)
    assert_close(rewards, torch.tensor([[-0.2, 5.1, 0.0], [-2.3, 0.0, 0.0]]))


def test_the_score_lands_on_the_last_token_of_a_full_row_and_nowhere_in_an_empty_one() -> None:
    rewards = token_rewards(torch.tensor([1.0, torch.nan]), torch.zeros(2, 3), left_aligned([3, 0], time=3), 0.5)
    assert rewards.tolist() == [[0, 0, 1], [0, 0, 0]]


@property_test
@given(padded_batches(), st.floats(0, 2))
def test_token_rewards_equal_a_slow_loop(batch: Padded, coefficient: float) -> None:
    kl, scores = batch.values("kl"), batch.scores()
    slow = torch.zeros_like(kl)
    for row, length in enumerate(batch.lengths):
        for step in range(length):
            slow[row, step] = -coefficient * kl[row, step] + (scores[row] if step == length - 1 else 0)
    rewards = token_rewards(scores, batch.soiled(kl), batch.mask, coefficient)
    assert_close(rewards, slow)
    # Undiscounted, a response earns its score minus the weighted KL of the sequence.
    total = scores * (torch.tensor(batch.lengths) > 0) - coefficient * (kl * batch.mask).sum(1)
    assert_close(rewards.sum(1), total)


def test_penalty_and_clipping_by_hand() -> None:
    scores = torch.tensor([1.0, 2.0, -7.0])
    assert penalize_missing_end(scores, torch.tensor([True, False, False]), 1.5).tolist() == [1.0, 0.5, -8.5]
    assert clip_scores(scores, 1.5).tolist() == [1.0, 1.5, -1.5]
    assert scores.tolist() == [1.0, 2.0, -7.0]


def test_running_moments_by_hand() -> None:
    moments = RunningMoments()
    # 1, 3: mean 2, squared deviations 1 + 1 = 2, standard deviation 1
    moments.update(torch.tensor([1.0, 3.0]))
    assert (moments.count, moments.mean, moments.squared_deviations) == (2, 2.0, 2.0)
    assert moments.standard_deviation == 1.0
    # and 8: mean 4; deviations -3, -1, 4: 9 + 1 + 16 = 26
    moments.update(torch.tensor([8.0]))
    assert moments.mean == pytest.approx(4.0)
    assert moments.squared_deviations == pytest.approx(26.0)
    assert_close(moments.scaled(torch.tensor([2.0])), torch.tensor([2.0 / (26 / 3) ** 0.5]))


@property_test
@given(st.lists(st.lists(st.floats(-100, 100, width=32), max_size=5), min_size=1, max_size=5))
def test_running_moments_equal_those_of_everything_seen(batches: list[list[float]]) -> None:
    updated, merged = RunningMoments(), RunningMoments()
    for batch in batches:
        updated.update(torch.tensor(batch))
        alone = RunningMoments()
        alone.update(torch.tensor(batch))
        merged.merge(alone)
    seen = [score for batch in batches for score in batch]
    for moments in (updated, merged):
        assert moments.count == len(seen)
        if seen:
            assert moments.mean == pytest.approx(statistics.fmean(seen), abs=1e-9)
            assert moments.squared_deviations == pytest.approx(statistics.pvariance(seen) * len(seen), abs=1e-6)


def test_moments_of_nothing_are_zero_and_can_be_given() -> None:
    moments = RunningMoments()
    assert (moments.count, moments.mean, moments.squared_deviations, moments.standard_deviation) == (0, 0, 0, 0)
    # Standard deviation sqrt(8 / 2) = 2; spread as large as rounding, and no larger, is none.
    assert RunningMoments(2, 5.0, 8.0).standard_deviation == 2.0
    assert RunningMoments(1, 1.0, ROUNDING**2).standard_deviation == 0.0
    assert RunningMoments(1, 1.0, (2 * ROUNDING) ** 2).standard_deviation == pytest.approx(2 * ROUNDING)


def test_scores_without_spread_are_not_scaled() -> None:
    moments = RunningMoments()
    assert moments.scaled(torch.tensor([3.0])).tolist() == [3.0]
    # The second score is the next float32 after 1: rounding, which must not be blown up to 8 million times itself.
    moments.update(torch.tensor([1.0, 1.0 + 2.0**-23]))
    assert moments.scaled(torch.tensor([0.5])).tolist() == [0.5]


def test_the_state_goes_through_json() -> None:
    moments, restored = RunningMoments(), RunningMoments()
    moments.update(torch.tensor([0.1, 0.7, -2.0]))
    restored.load_state_dict(json.loads(json.dumps(moments.state_dict())))
    for each in (moments, restored):
        each.update(torch.tensor([0.3]))
    assert restored.state_dict() == moments.state_dict()


def test_soft_overlong_penalty_by_hand() -> None:
    # Limit 10, buffer 4: nothing up to 6 tokens, then a quarter for each, 1 at the limit.
    found = soft_overlong_penalty(torch.tensor([1, 6, 7, 9, 10, 13]), limit=10, buffer=4)
    assert found.tolist() == [0.0, 0.0, 0.25, 0.75, 1.0, 1.0]
