"""Sums and quotients of losses."""

import torch

from plaudit.algorithms.interface import LossOutputs, Maximum, Mean


def test_a_sum_has_the_metrics_of_both_and_of_equal_names_the_left_one() -> None:
    left = LossOutputs(torch.tensor(2.0), {"mine": Mean(1, 2), "both": Mean(3, 4)})
    right = LossOutputs(torch.tensor(0.5), {"other": Maximum(5), "both": Mean(6, 7)})
    found = left + right
    assert found.loss.item() == 2.5
    assert found.metrics == {"mine": Mean(1, 2), "other": Maximum(5), "both": Mean(3, 4)}


def test_units_divide_the_loss_and_not_its_metrics() -> None:
    found = LossOutputs(torch.tensor(6.0), {"loss": Mean(6.0, 4)}) / 4
    assert found.loss.item() == 1.5
    assert found.metrics == {"loss": Mean(6.0, 4)}
