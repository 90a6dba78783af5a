"""Traps 7, 8, 15 and 20: padding and other masked tokens must have no effect.

Every test runs ``check`` on the real code, where it must pass, and on the bug, where it must fail.
"""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.algorithms import value_losses
from plaudit.algorithms.advantages import gae
from plaudit.algorithms.aggregation import token_weights, weighted_sum
from plaudit.algorithms.estimators import AdvantageInputs, gae_estimate
from plaudit.algorithms.kl import ESTIMATORS, k1, kl_loss
from plaudit.algorithms.masking import whiten
from plaudit.algorithms.policy_losses import Clip, gspo_loss
from plaudit.algorithms.rewards import token_rewards
from plaudit.algorithms.value_losses import clipped_value_loss
from plaudit.batching.ragged import rows_from
from plaudit.parallel.state import trained_parameters
from plaudit.training.rl import metrics, objectives, readings
from plaudit.training.rl.objectives import StepUnits
from trap_world import (
    close,
    collected,
    in_the_middle,
    plain_logits,
    responses_of,
    same_step,
    step_gradients,
)

ROLLOUTS = ["rl.prompts_per_iteration=8", "rl.minibatches=1", "rl.generation={max_new_tokens: 10, temperature: 1.4}"]


# 7 --------------------------------------------------------------------------------------------------------------------


def gae_over_all_positions(
    rewards: Tensor, values: Tensor, mask: Tensor, gamma: float, lambda_: float
) -> tuple[Tensor, Tensor]:
    """The bug: every position is a step, masked or not; the mask is applied at the end."""
    last = torch.zeros(len(rewards))
    advantages: list[Tensor] = []
    for step in reversed(range(rewards.shape[1])):
        following = values[:, step + 1] if step + 1 < rewards.shape[1] else torch.zeros(len(rewards))
        last = rewards[:, step] + gamma * following - values[:, step] + gamma * lambda_ * last
        advantages.insert(0, last)
    stacked = torch.stack(advantages, 1)
    return stacked * mask, (stacked + values) * mask


def test_trap_07_advantages_are_carried_across_masked_tokens() -> None:
    """Masked positions are not steps: they do not discount later rewards, and their values do not count.

    Environment tokens in multi-turn rollouts and values after the end both shift advantages unnoticed; miles ran GAE
    over masked tokens until July 2026.
    """
    mask = torch.tensor([[1, 1, 1, 0, 0], [1, 0, 0, 1, 1], [0, 1, 0, 1, 0]], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 3, 5, generator=generator)

    def check(estimate: Callable[..., tuple[Tensor, Tensor]]) -> None:
        advantages, returns = estimate(rewards, values, mask, 0.9, 0.8)
        for row, own in enumerate(mask):
            alone = torch.ones(1, int(own.sum()), dtype=torch.bool)
            expected = gae(rewards[row, own][None], values[row, own][None], alone, 0.9, 0.8)
            close(advantages[row, own], expected[0][0])
            close(returns[row, own], expected[1][0])
        by_hand = rewards[2, 1] + 0.9 * values[2, 3] - values[2, 1] + 0.72 * (rewards[2, 3] - values[2, 3])
        close(advantages[2, 1], by_hand)

    check(gae)
    with pytest.raises(AssertionError):
        check(gae_over_all_positions)


# 8 --------------------------------------------------------------------------------------------------------------------


def value_loss_over_all_positions(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Any:
    """The bug: padding is part of the sum."""
    return clipped_value_loss(values, old, returns, torch.ones_like(mask), clip)


def test_trap_08_values_at_masked_positions_change_nothing(folder: Path, monkeypatch: Any) -> None:
    """The value function's outputs at padding are meaningless: they must not affect losses, advantages or whitening.

    SkyRL's advantages were whitened with a mean over padding (reported in March 2026).
    """
    clean = in_the_middle(folder, *ROLLOUTS)
    expected = step_gradients(clean, clean.task.experience.examples)

    def check_losses() -> None:
        made = in_the_middle(folder, *ROLLOUTS)
        experience = made.task.experience
        for field in fields(experience.rows):
            rows = getattr(experience.rows, field.name)
            if rows.dim() == 2:
                rows[~experience.mask] = 1e3
        same_step(step_gradients(made, experience.examples), expected)

    def check_advantages(whitened: Callable[[Tensor, Tensor], Tensor]) -> None:
        rows, mask = clean.task.experience.rows, clean.task.experience.mask
        found = []
        for garbage in (0.0, 1e3, float("nan")):
            values = rows.values.masked_fill(~mask, garbage)
            inputs = AdvantageInputs(rows.advantages.clone(), values, mask, 1, 0.9, 0.8)
            made = gae_estimate(inputs)
            raw = made.advantages.masked_fill(~mask, garbage)  # as an estimator without a mask would leave them
            found.append((whitened(raw, mask)[mask], made.returns[mask]))
        for advantages, returns in found[1:]:
            close(advantages, found[0][0])
            close(returns, found[0][1])

    check_losses()
    check_advantages(whiten)
    with pytest.raises(AssertionError):
        check_advantages(lambda values, mask: (values - values.mean()) / values.std())
    monkeypatch.setattr(objectives, "clipped_value_loss", value_loss_over_all_positions)
    with pytest.raises(AssertionError):
        check_losses()


# 15 -------------------------------------------------------------------------------------------------------------------


def padded_with_noise(parts: list[Tensor]) -> Tensor:
    """Rows as models produce them: after the end are their outputs for padding."""
    rows = rows_from(parts)
    for row, part in zip(rows, parts, strict=True):
        row[len(part) :] = -7.0 + part[0]
    return rows


@pytest.mark.parametrize(
    "name, mutation, number",
    [
        ("masked_mean", lambda values, mask: values.mean(), "entropy"),
        ("sequence_kl", lambda kl, mask: kl.sum(1), "kl"),
    ],
)
def test_trap_15_padding_stays_out_of_entropy_and_kl(
    folder: Path, name: str, mutation: Any, number: str, monkeypatch: Any
) -> None:
    """If padding counts, both numbers depend on the longest response of the batch, and so does the controller."""
    monkeypatch.setattr(readings, "rows_from", padded_with_noise)

    def check() -> None:
        task = collected(folder, *ROLLOUTS)
        policy, entropies, kls = task.roles.loaded.model, [], []
        for prompt, response in responses_of(task):
            own = (plain_logits(policy, prompt, response) / 1.4).log_softmax(-1)
            its = (plain_logits(task.roles.frozen_reference.model, prompt, response) / 1.4).log_softmax(-1)
            chosen = (own - its)[range(len(response)), list(response)]
            entropies += (-(own.exp() * own).sum(-1)).tolist()
            kls.append(float(chosen.sum()))
        expected = {"entropy": sum(entropies) / len(entropies), "kl": sum(kls) / len(kls)}
        assert task.metrics[number] == pytest.approx(expected[number], abs=1e-4)

    check()
    monkeypatch.setattr(metrics, name, mutation)
    with pytest.raises(AssertionError):
        check()


# 20 -------------------------------------------------------------------------------------------------------------------


def weights_without_a_floor(mask: Tensor, *_: Any) -> Tensor:
    """The bug: the mean over a response's tokens, of which there may be none."""
    return mask / mask.sum(1, keepdim=True) / len(mask)


@pytest.mark.parametrize("everything", [False, True])
def test_trap_20_a_fully_masked_response_gives_no_nan(folder: Path, everything: bool, monkeypatch: Any) -> None:
    """A response without trained tokens would divide by zero; one NaN in the gradient destroys the policy."""
    options = ["rl.policy_loss=gspo", "rl.kl={placement: loss, coefficient: 0.1}", "rl.entropy_coefficient=0.01"]

    def check() -> None:
        made = in_the_middle(folder, *ROLLOUTS, *options)
        task = made.task
        task.experience.rows.learned[: None if everything else 3] = False
        task.units = StepUnits.of(task.experience.examples, task.experience)
        (build,) = made.gradients.micro_batches(task.experience.examples)
        batch = build()
        targets = [task.experience.examples[index].target for index in batch.tree_indices]
        policy = next(iter(task.losses(batch, targets))).loss
        assert torch.isfinite(policy)
        policy.backward()
        gradients = [
            p.grad
            for name, p in trained_parameters(made.task.module).items()
            if name.startswith("policy") and p.grad is not None
        ]
        assert all(gradient is None or torch.isfinite(gradient).all() for gradient in gradients)
        assert everything or any(gradient.abs().max() > 1e-4 for gradient in gradients)
        assert not everything or policy.item() == 0.0

    check()
    monkeypatch.setattr(objectives, "token_weights", weights_without_a_floor)
    with pytest.raises(AssertionError):
        check()


def test_trap_20_in_the_equations() -> None:
    """Rows without a real token do not affect the others, in any mean, ratio or recursion."""
    mask = torch.tensor([[1, 1, 0], [0, 0, 0]], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    one, two, three = torch.randn(3, 2, 3, generator=generator)

    def results(rows: int) -> list[Tensor]:
        own, x, y, z = mask[:rows], one[:rows], two[:rows], three[:rows]
        weights = token_weights(own, "sequence_mean", int(own.sum()), 1)
        return [
            whiten(x, own)[0],
            gae(x, y, own, 0.9, 0.8)[0][0],
            token_rewards(x[:, 0], k1(y, z), own, 0.1)[0],
            gspo_loss(x, y, z, weights, own, Clip(0.2, 0.2)).loss,
            value_losses.clipped_value_loss(x, y, z, own, 0.2).loss,
            weighted_sum(kl_loss(x, y, z, own, "k3"), weights, own),
            *(weighted_sum(estimator(x, y), weights, own) for estimator in ESTIMATORS.values()),
        ]

    for both, alone in zip(results(2), results(1), strict=True):
        assert both.shape == alone.shape
        assert torch.allclose(both, alone, rtol=1e-5, atol=1e-5)
