"""SimPO and ORPO by hand, and log odds where they are hard to compute."""

import math

import pytest
import torch
from torch.testing import assert_close

from plaudit.algorithms.reference_free_losses import log_odds, orpo_loss, simpo_loss

# Two responses of 4 and 2 tokens with mean log-probabilities ln 1/2 and ln 1/4, and three tied ones.
LOG_PROBABILITIES = torch.tensor([-4 * math.log(2.0), -2 * math.log(4.0), -1.0, -2.0, -3.0])
LENGTHS, PROMPTS, RANKS = torch.tensor([4, 2, 1, 1, 1]), torch.tensor([0, 0, 1, 1, 1]), torch.tensor([0, 1, 0, 0, 0])


def test_simpo_by_hand() -> None:
    # beta 2: 2 (ln 1/2 - ln 1/4) = 2 ln 2, minus a margin of ln 4: sigmoid(0). Without: sigmoid(ln 4) = 4/5.
    found = simpo_loss(LOG_PROBABILITIES, LENGTHS, PROMPTS, RANKS, 2.0, math.log(4.0))
    assert (found.loss.item(), found.prompts.item()) == (pytest.approx(math.log(2.0), abs=1e-6), 1)
    found = simpo_loss(LOG_PROBABILITIES, LENGTHS, PROMPTS, RANKS, 2.0, 0.0)
    assert found.loss.item() == pytest.approx(-math.log(0.8), abs=1e-6)


def test_simpo_uses_means_not_sums() -> None:
    # Equal means per token: no preference, regardless of the lengths.
    lengths = torch.tensor([9, 2])
    found = simpo_loss(-0.7 * lengths, lengths, torch.tensor([0, 0]), torch.tensor([0, 1]), 2.0, 0.0)
    assert found.loss.item() == pytest.approx(math.log(2.0), abs=1e-6)


def test_orpo_by_hand() -> None:
    # p is 1/2 and 1/4, odds 1 and 1/3: sigmoid(ln 3) = 3/4. ln 2 - 0.1 ln 3/4 = 0.721915.
    found = orpo_loss(LOG_PROBABILITIES, LENGTHS, PROMPTS, RANKS, 0.1)
    assert (found.loss.item(), found.prompts.item()) == (pytest.approx(0.721915, abs=1e-6), 1)


def test_orpo_of_a_ranking_is_the_mean_over_its_pairs() -> None:
    log_probabilities, lengths = torch.tensor([-1.0, -2.0, -4.0]), torch.tensor([2, 3, 4])
    found = orpo_loss(log_probabilities, lengths, torch.zeros(3, dtype=torch.long), torch.tensor([0, 1, 2]), 0.3)
    pairs = [
        orpo_loss(log_probabilities[[i, j]], lengths[[i, j]], torch.tensor([0, 0]), torch.tensor([0, 1]), 0.3).loss
        for i, j in ((0, 1), (0, 2), (1, 2))
    ]
    assert_close(found.loss, torch.stack(pairs).mean())


def test_log_odds_near_certainty_and_near_impossibility() -> None:
    exact = torch.tensor([-60.0, -20.0, -1.0, -0.6931, -0.5, -1e-3, -1e-5], dtype=torch.float64)
    expected = torch.special.logit(exact.exp())
    expected[-2:] = exact[-2:] - torch.log(-torch.expm1(exact[-2:]))
    assert_close(log_odds(exact), expected, rtol=1e-9, atol=1e-9)
    assert_close(log_odds(exact.float()), expected.float(), rtol=1e-5, atol=1e-5)
    certain = torch.zeros(1, requires_grad=True)
    assert log_odds(certain).item() == pytest.approx(math.log(1e6), abs=1e-3)
    assert torch.autograd.grad(log_odds(certain).sum(), certain)[0].item() == 0
