"""The policy losses: PPO, GSPO and plain policy gradient."""

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from padded_batches import Padded, left_aligned, padded_batches, property_test
from plaudit.algorithms.policy_losses import Clip, PolicyLoss, gspo_loss, policy_gradient_loss, ppo_loss
from plaudit.algorithms.value_losses import clipped_value_loss


def clipped_policy_loss(log_probs: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float) -> PolicyLoss:
    """PPO's loss with the same bound on both sides and weight 1 for every token."""
    return ppo_loss(log_probs, old, advantages, mask.double(), mask, Clip(clip, clip))


def test_policy_loss_by_hand() -> None:
    # clip 0.2. Ratios and advantages, token by token:
    #   1.5 with A = 2:   min(3.0, 1.2 * 2 = 2.4) = 2.4, clipped
    #   1.5 with A = -2:  min(-3.0, -2.4) = -3.0
    #   0.5 with A = 2:   min(1.0, 0.8 * 2 = 1.6) = 1.0
    #   0.5 with A = -2:  min(-1.0, -1.6) = -1.6, clipped
    #   1.1 with A = 1:   1.1
    # Sum 2.4 - 3.0 + 1.0 - 1.6 + 1.1 = -0.1, so the loss is 0.1. k3 of old against new is ratio - 1 - ln ratio:
    #   2 * (0.5 - ln 1.5) + 2 * (-0.5 - ln 0.5) + (0.1 - ln 1.1) = 0.189070 + 0.386294 + 0.004690 = 0.580054
    ratios = torch.tensor([[1.5, 1.5, 0.5, 7.0], [0.5, 1.1, 9.0, 9.0]])
    advantages = torch.tensor([[2.0, -2.0, 2.0, 5.0], [-2.0, 1.0, 5.0, 5.0]])
    old = torch.full((2, 4), -1.3)
    result = clipped_policy_loss(old + ratios.log(), old, advantages, left_aligned([3, 2], time=4), clip=0.2)
    assert result.loss.item() == pytest.approx(0.1, abs=1e-5)
    assert result.clipped.item() == 2
    assert result.approximate_kl.item() == pytest.approx(0.580054, abs=1e-5)
    assert result.ratio_max.item() == pytest.approx(1.5, abs=1e-5)


def test_value_loss_by_hand() -> None:
    # clip 0.5, old value 1:
    #   V = 2, R = 3:  (2 - 3)^2 = 1;  clipped to 1.5: (1.5 - 3)^2 = 2.25, larger: clipped
    #   V = 2, R = 1:  1;              clipped to 1.5: 0.25, smaller
    #   V = 1.25, R = 1: 0.0625 both ways
    # Half of 2.25 + 1 + 0.0625 = 1.65625; without the clip half of 1 + 1 + 0.0625 = 1.03125.
    values = torch.tensor([[2.0, 2.0, 50.0], [1.25, 50.0, 50.0]])
    old, returns = torch.ones(2, 3), torch.tensor([[3.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    mask = left_aligned([2, 1], time=3)
    result = clipped_value_loss(values, old, returns, mask, clip=0.5)
    assert (result.loss.item(), result.clipped.item()) == (1.65625, 1)
    result = clipped_value_loss(values, old, returns, mask, clip=None)
    assert (result.loss.item(), result.clipped.item()) == (1.03125, 0)


@property_test
@given(padded_batches())
def test_unchanged_policy_has_ratio_one(batch: Padded) -> None:
    old, advantages, mask = batch.values("old"), batch.values("advantages"), batch.mask
    log_probs = old.clone().requires_grad_()
    result = clipped_policy_loss(log_probs, old, advantages, mask, clip=0.2)
    assert_close(result.loss, -advantages[mask].sum())
    assert (result.ratio_max.item(), result.clipped.item(), result.approximate_kl.item()) == (1, 0, 0)
    # There the gradient is that of REINFORCE: minus the advantage for every log-probability.
    (gradient,) = torch.autograd.grad(result.loss, log_probs)
    assert_close(gradient, -advantages * mask)


@property_test
@given(padded_batches(), st.floats(0.05, 0.5))
def test_policy_loss_equals_a_slow_loop(batch: Padded, clip: float) -> None:
    new, old, advantages = batch.values("new"), batch.values("old"), batch.values("advantages")
    loss = kl = clipped = largest = 0.0
    for row, length in enumerate(batch.lengths):
        for t in range(length):
            log_ratio = (new[row, t] - old[row, t]).item()
            ratio, advantage = math.exp(log_ratio), advantages[row, t].item()
            kept = ratio * advantage
            limited = min(max(ratio, 1 - clip), 1 + clip) * advantage
            loss -= min(kept, limited)
            clipped += limited < kept
            kl += ratio - 1 - log_ratio
            largest = max(largest, ratio)
    result = clipped_policy_loss(new, old, advantages, batch.mask, clip)
    found = (result.loss, result.clipped, result.approximate_kl, result.ratio_max)
    assert [x.item() for x in found] == pytest.approx([loss, clipped, kl, largest], abs=1e-9)


@property_test
@given(padded_batches(), st.floats(0.05, 0.5))
def test_value_loss_equals_a_slow_loop(batch: Padded, clip: float) -> None:
    values, old, returns = batch.values("new"), batch.values("old"), batch.values("returns")
    loss = clipped = 0.0
    for row, length in enumerate(batch.lengths):
        for t in range(length):
            v, o, r = (x[row, t].item() for x in (values, old, returns))
            limited = min(max(v, o - clip), o + clip)
            loss += 0.5 * max((v - r) ** 2, (limited - r) ** 2)
            clipped += (limited - r) ** 2 > (v - r) ** 2
    result = clipped_value_loss(values, old, returns, batch.mask, clip)
    assert [result.loss.item(), result.clipped.item()] == pytest.approx([loss, clipped], abs=1e-9)


def losses_and_gradients(new: Tensor, old: Tensor, target: Tensor, mask: Tensor) -> list[Tensor]:
    new = new.clone().requires_grad_()
    policy = clipped_policy_loss(new, old, target, mask, clip=0.2)
    value = clipped_value_loss(new, old, target, mask, clip=0.2)
    gradients = [torch.autograd.grad(loss, new)[0] for loss in (policy.loss, value.loss)]
    numbers = [policy.loss, policy.clipped, policy.approximate_kl, policy.ratio_max, value.loss, value.clipped]
    return [*(number.detach() for number in numbers), *gradients]


@property_test
@given(padded_batches())
def test_garbage_at_masked_positions_changes_neither_losses_nor_gradients(batch: Padded) -> None:
    new, old, target = batch.values("new"), batch.values("old"), batch.values("target")
    clean = losses_and_gradients(new, old, target, batch.mask)
    soiled = losses_and_gradients(batch.soiled(new), batch.soiled(old), batch.soiled(target), batch.mask)
    assert_close(soiled, clean, rtol=0, atol=0)


@property_test
@given(padded_batches(), st.integers(0, 5))
def test_sums_do_not_depend_on_the_split(batch: Padded, cut: int) -> None:
    new, old, target, mask = batch.values("new"), batch.values("old"), batch.values("target"), batch.mask
    first = losses_and_gradients(new[:cut], old[:cut], target[:cut], mask[:cut])
    second = losses_and_gradients(new[cut:], old[cut:], target[cut:], mask[cut:])
    together = losses_and_gradients(new, old, target, mask)
    for index in (0, 1, 2, 4, 5):
        assert_close(first[index] + second[index], together[index])
    assert_close(torch.maximum(first[3], second[3]), together[3])
    for index in (6, 7):
        assert_close(torch.cat([first[index], second[index]]), together[index])


def test_gradients_by_finite_differences() -> None:
    # Ratios 1.05, 1.5, 0.6 and values away from the kinks of the clip.
    old = torch.tensor([[-1.0, -2.0, -0.5]], dtype=torch.float64)
    new = (old + torch.tensor([[1.05, 1.5, 0.6]], dtype=torch.float64).log()).requires_grad_()
    target = torch.tensor([[0.7, -1.0, 2.0]], dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda x: clipped_policy_loss(x, old, target, mask, 0.2).loss, new)
    assert torch.autograd.gradcheck(lambda x: clipped_value_loss(x, old, target, mask, 0.2).loss, new)


def test_values_within_the_clip_are_not_counted() -> None:
    # old + (new - old) is not exactly new: written so, rounding would count as clipping.
    generator = torch.Generator().manual_seed(1)
    values, old, returns = torch.randn(3, 20, 20, generator=generator).unbind()
    mask = torch.ones(20, 20, dtype=torch.bool)
    clipped = clipped_value_loss(values, old, returns, mask, clip=20.0)
    assert clipped.clipped.item() == 0
    assert clipped.loss.item() == clipped_value_loss(values, old, returns, mask, clip=None).loss.item()


def test_clipped_tokens_have_no_gradient() -> None:
    old = torch.zeros(1, 2)
    new = torch.tensor([[1.5, 0.5]]).log().requires_grad_()
    result = clipped_policy_loss(new, old, torch.tensor([[1.0, -1.0]]), torch.ones(1, 2, dtype=torch.bool), 0.2)
    assert result.clipped.item() == 2
    assert torch.autograd.grad(result.loss, new)[0].tolist() == [[0.0, 0.0]]


@pytest.mark.parametrize("responses", [0, 2])
def test_no_real_token_gives_zeros(responses: int) -> None:
    nothing = torch.full((responses, 3), torch.nan)
    results = losses_and_gradients(nothing, nothing, nothing, torch.zeros(responses, 3, dtype=torch.bool))
    assert not any(result.any() for result in results)


EVERY_LOSS = [ppo_loss, gspo_loss, policy_gradient_loss]


@pytest.mark.parametrize("loss", EVERY_LOSS)
def test_only_the_loss_carries_a_gradient(loss: Callable[..., PolicyLoss]) -> None:
    log_probs = torch.zeros(1, 2, requires_grad=True)
    mask = torch.ones(1, 2, dtype=torch.bool)
    found = loss(log_probs, torch.ones(1, 2), torch.ones(1, 2), mask.float(), mask, Clip(0.2, 0.2))
    assert found.loss.requires_grad
    assert not any(number.requires_grad for number in (found.clipped, found.approximate_kl, found.ratio_max))


def test_bounds_of_the_ratio_may_differ() -> None:
    # low 0.2, high 0.5: A = 1 with ratio 1.4 is inside, with 1.6 counts as 1.5; A = -1 with 0.7 counts as 0.8.
    ratios, advantages = torch.tensor([[1.4, 1.6, 0.7]]), torch.tensor([[1.0, 1.0, -1.0]])
    mask = torch.ones(1, 3, dtype=torch.bool)
    result = ppo_loss(ratios.log(), torch.zeros(1, 3), advantages, mask.float(), mask, Clip(0.2, 0.5))
    assert result.loss.item() == pytest.approx(-1.4 - 1.5 + 0.8, abs=1e-6)
    assert result.clipped.item() == 2


def test_dual_clip_bounds_only_the_loss_of_negative_advantages() -> None:
    # Ratio 5 and A = -2: the loss 10 becomes 3 * 2 = 6, without gradient. Ratio 5 and A = 2: PPO's clip, -1.2 * 2.
    log_probs = torch.tensor([[5.0, 5.0, 2.0]]).log().requires_grad_()
    advantages, mask = torch.tensor([[-2.0, 2.0, -2.0]]), torch.ones(1, 3, dtype=torch.bool)
    result = ppo_loss(log_probs, torch.zeros(1, 3), advantages, mask.float(), mask, Clip(0.2, 0.2, dual=3.0))
    assert result.loss.item() == pytest.approx(6 - 2.4 + 4, abs=1e-6)
    assert result.clipped.item() == 2
    assert torch.autograd.grad(result.loss, log_probs)[0].tolist() == [[0.0, 0.0, pytest.approx(4.0)]]


def test_dual_clip_of_a_small_advantage() -> None:
    # Ratio 5 and A = -0.5: the loss 2.5 becomes 3 * 0.5. Ratio 5 and A = 0.5: PPO's clip, -1.2 * 0.5.
    advantages, mask = torch.tensor([[-0.5, 0.5]]), torch.ones(1, 2, dtype=torch.bool)
    log_probs = torch.full((1, 2), 5.0).log()
    result = ppo_loss(log_probs, torch.zeros(1, 2), advantages, mask.float(), mask, Clip(0.2, 0.2, dual=3.0))
    assert result.loss.item() == pytest.approx(1.5 - 0.6, abs=1e-6)
    assert result.clipped.item() == 2


def test_gspo_by_hand() -> None:
    # Response 1: log ratios 0.3 and 0.1, so s = e^0.2, A = 1: inside the bounds. Response 2: log ratio -0.5, A = -1:
    # s = e^-0.5 = 0.607 counts as 0.7. Mean over responses: (-e^0.2 + 0.7) / 2.
    log_probs = torch.tensor([[0.3, 0.1], [-0.5, 9.0]]).requires_grad_()
    mask = left_aligned([2, 1], time=2)
    weights = torch.tensor([[0.25, 0.25], [0.5, 0.0]])
    advantages = torch.tensor([[1.0, 1.0], [-1.0, 0.0]])
    result = gspo_loss(log_probs, torch.zeros(2, 2), advantages, weights, mask, Clip(0.3, 0.3))
    assert result.loss.item() == pytest.approx((-math.exp(0.2) + 0.7) / 2, abs=1e-6)
    assert result.clipped.item() == 1
    # The gradient of s = exp(mean log rho): s / |y| for each token of the response that is not clipped.
    expected = -math.exp(0.2) / 4
    assert torch.autograd.grad(result.loss, log_probs)[0].tolist() == [[pytest.approx(expected)] * 2, [0.0, 0.0]]


@property_test
@given(padded_batches())
def test_gspo_of_responses_of_one_token_is_ppo(batch: Padded) -> None:
    new, old, advantages = (batch.values(name)[:, :1] for name in ("new", "old", "advantages"))
    mask, clip = batch.mask[:, :1], Clip(0.2, 0.3)
    assert_close(
        gspo_loss(new, old, advantages, mask.double(), mask, clip).loss,
        ppo_loss(new, old, advantages, mask.double(), mask, clip).loss,
    )


@property_test
@given(padded_batches())
def test_every_loss_has_the_gradient_of_reinforce_at_the_policy_that_sampled(batch: Padded) -> None:
    old, advantages, mask = batch.values("old"), batch.values("advantages"), batch.mask
    weights = batch.values("weights").abs()
    for loss in EVERY_LOSS:
        log_probs = old.clone().requires_grad_()
        result = loss(log_probs, old, advantages, weights, mask, Clip(0.2, 0.2))
        (gradient,) = torch.autograd.grad(result.loss, log_probs)
        assert_close(gradient, -advantages * weights * mask)


@property_test
@given(padded_batches())
def test_garbage_at_masked_positions_changes_no_loss(batch: Padded) -> None:
    new, old, advantages = batch.values("new"), batch.values("old"), batch.values("advantages")
    for loss in EVERY_LOSS:
        weights, clip = batch.mask.double(), Clip(0.2, 0.3, dual=2.0)
        clean = loss(new, old, advantages, weights, batch.mask, clip)
        soiled = batch.soiled(new).requires_grad_()
        found = loss(soiled, batch.soiled(old), batch.soiled(advantages), weights, batch.mask, clip)
        assert found.loss.item() == clean.loss.item()
        (gradient,) = torch.autograd.grad(found.loss, soiled)
        assert torch.isfinite(gradient).all()
        assert not gradient[~batch.mask].any()
