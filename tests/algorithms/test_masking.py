"""Masked statistics against hand-computed numbers and slow loops."""

import statistics

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from padded_batches import Padded, left_aligned, padded_batches, property_test
from plaudit.algorithms.masking import (
    explained_variance,
    explained_variance_with,
    masked_mean,
    masked_sum,
    masked_variance,
    mean_and_variance,
    moments,
    whiten,
    whiten_with,
    zero_masked,
)

NAN = torch.nan
VALUES = torch.tensor([[1.0, 2.0, NAN], [6.0, NAN, NAN]])
MASK = left_aligned([2, 1], time=3)


def real_values(values: Tensor, batch: Padded) -> list[float]:
    return [values[row, step].item() for row, length in enumerate(batch.lengths) for step in range(length)]


def test_sum_mean_and_variance_by_hand() -> None:
    # 1 + 2 + 6 = 9; 9 / 3 = 3; ((1-3)^2 + (2-3)^2 + (6-3)^2) / 3 = (4 + 1 + 9) / 3 = 14/3
    assert masked_sum(VALUES, MASK).item() == 9
    assert masked_mean(VALUES, MASK).item() == 3
    assert masked_variance(VALUES, MASK).item() == pytest.approx(14 / 3)


def test_whitening_by_hand() -> None:
    # (x - 3) / sqrt(14/3), sqrt(14/3) = 2.160247
    expected = torch.tensor([[-2 / 2.160247, -1 / 2.160247, 0], [3 / 2.160247, 0, 0]])
    assert_close(whiten(VALUES, MASK), expected, atol=1e-6, rtol=0)


def test_moments_by_hand() -> None:
    # count 3, sum 9, squares 1 + 4 + 36 = 41; variance 41/3 - 3^2 = 14/3
    assert moments(VALUES, MASK).tolist() == [3, 9, 41]
    mean, variance = mean_and_variance(moments(VALUES, MASK))
    assert mean.item() == 3
    assert variance.item() == pytest.approx(14 / 3, rel=1e-12)


def test_explained_variance_by_hand() -> None:
    # returns 1, 2, 6: variance 14/3; residuals 1-1, 2-1, 6-4 = 0, 1, 2: variance 2/3; 1 - (2/3) / (14/3) = 6/7
    values = torch.tensor([[1.0, 1.0, NAN], [4.0, NAN, NAN]])
    assert explained_variance(values, VALUES, MASK).item() == pytest.approx(6 / 7)
    assert explained_variance(VALUES + 5, VALUES, MASK).item() == pytest.approx(1)
    assert explained_variance(torch.zeros(2, 3), VALUES, MASK).item() == pytest.approx(0)
    # Returns that do not vary, also when the sums of their squares are rounded.
    for constant in (1.0, 0.1, 0.3, 1e4 + 0.3):
        returns = torch.full((2, 3), constant, dtype=torch.float64)
        assert explained_variance(VALUES, returns, MASK).item() == 0


def test_returns_that_vary_little_around_a_small_mean_do_vary() -> None:
    returns = torch.tensor([[1e-3, 1e-3 + 1e-7, 1e-3 - 1e-7]], dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert explained_variance(returns, returns, mask).item() == 1
    assert explained_variance(torch.zeros(1, 3, dtype=torch.float64), returns, mask).item() == pytest.approx(
        0, abs=1e-6
    )


def test_a_variance_that_rounding_makes_negative_is_zero() -> None:
    # S2/n - (S1/n)^2 = 1.9 / 2 - 1 = -0.05
    mean, variance = mean_and_variance(torch.tensor([2.0, 2.0, 1.9]))
    assert (mean.item(), variance.item()) == (1.0, 0.0)


def test_nothing_real_gives_zeros() -> None:
    nothing = torch.zeros(2, 3, dtype=torch.bool)
    assert masked_sum(VALUES, nothing).item() == 0
    assert masked_mean(VALUES, nothing).item() == 0
    assert masked_variance(VALUES, nothing).item() == 0
    assert whiten(VALUES, nothing).tolist() == [[0, 0, 0]] * 2
    assert moments(VALUES, nothing).tolist() == [0, 0, 0]
    assert [x.item() for x in mean_and_variance(moments(VALUES, nothing))] == [0, 0]
    assert explained_variance(VALUES, VALUES, nothing).item() == 0


def test_values_without_spread_whiten_to_zero() -> None:
    assert whiten(torch.full((2, 3), 0.1), MASK).abs().max().item() < 1e-3


def test_low_precision_is_widened_before_adding() -> None:
    # In bfloat16 256 + 1 = 256: a sum of ones would stop there.
    ones = torch.ones(4, 1000, dtype=torch.bfloat16)
    total = masked_sum(ones, ones.bool())
    assert total.dtype == torch.float32
    assert total.item() == 4000


def test_variance_from_moments_survives_a_large_mean() -> None:
    # In float32 the squares around 1e4 are multiples of 8, and their mean minus the squared mean is noise.
    values = torch.tensor([[10000.0, 10001.0, 10002.0]])
    _, variance = mean_and_variance(moments(values, torch.ones_like(values, dtype=torch.bool)))
    assert variance.item() == pytest.approx(2 / 3, rel=1e-6)


def test_refuses_other_shapes_and_masks() -> None:
    with pytest.raises(ValueError, match="differ in shape"):
        masked_sum(torch.ones(3), torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match="must be bool"):
        masked_sum(torch.ones(3), torch.ones(3))


@property_test
@given(padded_batches())
def test_equals_the_standard_library(batch: Padded) -> None:
    values = batch.values("x")
    real = real_values(values, batch)
    assert masked_sum(values, batch.mask).item() == pytest.approx(sum(real), abs=1e-12)
    assert masked_mean(values, batch.mask).item() == pytest.approx(statistics.fmean(real), abs=1e-12)
    assert masked_variance(values, batch.mask).item() == pytest.approx(statistics.pvariance(real), abs=1e-12)


@property_test
@given(padded_batches())
def test_garbage_at_masked_positions_changes_neither_results_nor_gradients(batch: Padded) -> None:
    clean, weights = batch.values("x"), batch.values("weights")

    def results_and_gradient(values: Tensor) -> list[Tensor]:
        leaf = values.clone().requires_grad_()
        whitened = whiten(leaf, batch.mask)
        results = [masked_mean(leaf, batch.mask), masked_variance(leaf, batch.mask), whitened]
        (gradient,) = torch.autograd.grad(results[0] + results[1] + (whitened * weights).sum(), leaf)
        return [*results, gradient, moments(values, batch.mask), explained_variance(values, clean, batch.mask)]

    assert_close(results_and_gradient(batch.soiled(clean)), results_and_gradient(clean), rtol=0, atol=0)


@property_test
@given(padded_batches(), st.integers(0, 5))
def test_moments_add_up_over_any_split(batch: Padded, cut: int) -> None:
    values, mask = batch.values("x"), batch.mask
    parts = moments(values[:cut], mask[:cut]) + moments(values[cut:], mask[cut:])
    assert_close(parts, moments(values, mask))
    mean, variance = mean_and_variance(parts)
    assert_close(zero_masked(whiten_with(values, mean, variance), mask), whiten(values, mask), rtol=0, atol=1e-6)
    residual, returns = moments(values - batch.values("r"), mask), moments(batch.values("r"), mask)
    assert_close(explained_variance_with(residual, returns), explained_variance(values, batch.values("r"), mask))


@property_test
@given(padded_batches())
def test_whitened_values_have_mean_zero_and_variance_one(batch: Padded) -> None:
    if sum(batch.lengths) > 1:
        whitened = whiten(batch.values("x"), batch.mask)
        assert masked_mean(whitened, batch.mask).item() == pytest.approx(0, abs=1e-9)
        assert masked_variance(whitened, batch.mask).item() == pytest.approx(1, abs=1e-3)
        assert not whitened[~batch.mask].any()


def test_inputs_are_not_changed() -> None:
    values = VALUES.clone()
    whiten(values, MASK)
    moments(values, MASK)
    assert_close(values, VALUES, equal_nan=True)
