"""The weights of token losses in the loss of a step."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from padded_batches import Padded, left_aligned, padded_batches, property_test
from plaudit.algorithms.aggregation import importance_weights, masked_importance_weights, token_weights, weighted_sum
from plaudit.algorithms.catalogue import Aggregation

MODES: list[Aggregation] = ["token_mean", "sequence_mean", "sequence_sum"]


def test_weights_by_hand() -> None:
    mask = left_aligned([3, 1], time=4)
    wanted = {
        "token_mean": [[1 / 4, 1 / 4, 1 / 4, 0], [1 / 4, 0, 0, 0]],
        "sequence_mean": [[1 / 6, 1 / 6, 1 / 6, 0], [1 / 2, 0, 0, 0]],
        "sequence_sum": [[1 / 2, 1 / 2, 1 / 2, 0], [1 / 2, 0, 0, 0]],
    }
    for mode in MODES:
        assert_close(token_weights(mask, mode, tokens=4, responses=2), torch.tensor(wanted[mode]))


@property_test
@given(padded_batches(), st.sampled_from(MODES), st.integers(0, 5))
def test_a_split_into_micro_batches_changes_nothing(batch: Padded, mode: Aggregation, cut: int) -> None:
    values, tokens, responses = batch.values("losses"), int(batch.mask.sum()), len(batch.lengths)

    def part(rows: slice) -> torch.Tensor:
        mask = batch.mask[rows]
        return weighted_sum(batch.soiled(values)[rows], token_weights(mask, mode, tokens, responses), mask)

    assert_close(part(slice(cut)) + part(slice(cut, None)), part(slice(None)), atol=1e-6, rtol=1e-5)


def test_a_single_token_weighs_one() -> None:
    for mode in MODES:
        assert token_weights(left_aligned([1], time=2), mode, tokens=1, responses=1).tolist() == [[1, 0]]


def test_a_step_without_tokens_has_no_weight() -> None:
    for mode in MODES:
        assert not token_weights(torch.zeros(2, 3, dtype=torch.bool), mode, 0, 0).any()


def test_importance_weights_are_ratios_up_to_a_limit_and_carry_no_gradient() -> None:
    training = torch.tensor([0.5, 0.3, 0.9]).log().requires_grad_()
    sampling = torch.tensor([0.25, 0.3, 0.1]).log()
    weights = importance_weights(training, sampling, limit=3.0)
    assert weights.tolist() == pytest.approx([2.0, 1.0, 3.0])
    assert not weights.requires_grad


def test_masked_importance_weights_are_ratios_within_a_range_and_zero_outside() -> None:
    training = torch.tensor([0.5, 0.2, 0.9, 0.1, 0.3]).log().requires_grad_()
    sampling = torch.tensor([0.125, 0.25, 0.1, 0.4, 0.3]).log()
    weights = masked_importance_weights(training, sampling, low=0.5, high=5.0)
    assert weights.tolist() == pytest.approx([4.0, 0.8, 0.0, 0.0, 1.0])
    assert not weights.requires_grad
