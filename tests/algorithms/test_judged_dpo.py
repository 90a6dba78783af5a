"""DPO with the probabilities of a judge instead of choices."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given

from padded_batches import Ranked, property_test, ranked_responses
from plaudit.algorithms.direct_preference_losses import judged_dpo_loss


def test_judged_dpo_by_hand() -> None:
    # Prompt 0: scores 0, ln 3: P(first better) = 1/4; beta h gap = 0.5 * (0 - 2 ln 3) = -ln 3, sigmoid 1/4.
    #   -(1/4 ln 1/4 + 3/4 ln 3/4) = 0.562335, the entropy of a coin of 1/4: the minimum.
    # Prompt 1, three responses, equal scores, h = 0, 0, 2 ln 2: P = 1/2; gaps 0, -ln 2, -ln 2, sigmoids 1/2, 1/3, 1/3.
    #   ln 2 = 0.693147 and twice -(ln 1/3 + ln 2/3) / 2 = 0.752039: mean 0.732408.
    # Prompt 2 has one response. Sum 1.294743 over 2 prompts.
    log_ratios = torch.tensor([0.0, 2 * math.log(3.0), 0.0, 0.0, 2 * math.log(2.0), 5.0])
    scores = torch.tensor([0.0, math.log(3.0), 7.0, 7.0, 7.0, 1.0])
    found = judged_dpo_loss(log_ratios, torch.tensor([0, 0, 1, 1, 1, 2]), scores, beta=0.5)
    assert found.loss.item() == pytest.approx(1.294743, abs=1e-6)
    assert found.prompts.item() == 2


@property_test
@given(ranked_responses())
def test_judged_dpo_equals_slow_loops(data: Ranked) -> None:
    scores = data.ranks.double() * 0.7
    expected, prompts = 0.0, 0
    for prompt in set(data.prompts.tolist()):
        members = [i for i, p in enumerate(data.prompts.tolist()) if p == prompt]
        losses = []
        for i, j in combinations(members, 2):
            gap = 0.3 * (data.scores[i] - data.scores[j]).item()
            better = 1 / (1 + math.exp(-(scores[i] - scores[j]).item()))
            losses.append(better * math.log1p(math.exp(-gap)) + (1 - better) * math.log1p(math.exp(gap)))
        if losses:
            expected, prompts = expected + sum(losses) / len(losses), prompts + 1
    found = judged_dpo_loss(data.scores, data.prompts, scores, beta=0.3)
    assert found.loss.item() == pytest.approx(expected)
    assert found.prompts.item() == prompts


def test_the_optimum_is_the_reference_tilted_by_the_scores() -> None:
    # pi ~ pi_ref exp(s / beta) over three responses: there, and only there, the gradient vanishes.
    reference, scores, beta = torch.tensor([0.5, 0.3, 0.2]).double(), torch.tensor([0.4, -1.0, 2.0]).double(), 0.8
    policy = (reference.log() + scores / beta).softmax(0)
    for target, is_optimum in ((policy, True), (reference, False)):
        logits = target.log().clone().requires_grad_()
        log_ratios = logits.log_softmax(0) - reference.log()
        found = judged_dpo_loss(log_ratios, torch.zeros(3, dtype=torch.long), scores, beta)
        gradient = torch.autograd.grad(found.loss, logits)[0]
        assert (gradient.abs().max().item() < 1e-12) == is_optimum


def test_judged_dpo_has_no_gradient_for_the_scores() -> None:
    scores, log_ratios = torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([0.3, 0.1], requires_grad=True)
    judged_dpo_loss(log_ratios, torch.zeros(2, dtype=torch.long), scores, 0.1).loss.backward()
    assert scores.grad is None
    assert log_ratios.grad is not None


def test_judged_dpo_of_nothing_and_of_extremes() -> None:
    nothing = judged_dpo_loss(torch.zeros(0), torch.zeros(0, dtype=torch.long), torch.zeros(0), 0.1)
    assert (nothing.loss.item(), nothing.prompts.item()) == (0, 0)
    extreme = judged_dpo_loss(torch.tensor([-1e4, 1e4]), torch.tensor([0, 0]), torch.tensor([1e4, -1e4]), 1.0)
    assert extreme.loss.item() == pytest.approx(2e4)


def test_gradients_by_finite_differences() -> None:
    log_ratios = torch.randn(5, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    prompts, scores = torch.tensor([0, 1, 0, 1, 0]), torch.tensor([0.1, 2.0, -1.0, 0.5, 0.3])
    assert torch.autograd.gradcheck(lambda h: judged_dpo_loss(h, prompts, scores, 0.4).loss, log_ratios)
