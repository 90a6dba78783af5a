"""The advantage estimators of the catalogue: each takes ``AdvantageInputs`` and calls its equation."""

from dataclasses import dataclass

import torch
from torch import Tensor

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

GROUP_EPSILON = 1e-6
"""Added to the standard deviation of a group's scores."""


@dataclass(frozen=True)
class AdvantageInputs:
    """The inputs of an advantage estimator: R responses of at most T tokens to P prompts, ``group_size`` per prompt.

    ``rewards``, ``values`` and ``mask`` are [R, T] (values are zero for estimators without a value function);
    ``greedy_scores`` [P] are the scores of greedy responses, for estimators that use them.
    """

    rewards: Tensor
    values: Tensor
    mask: Tensor
    group_size: int
    gamma: float
    gae_lambda: float
    greedy_scores: Tensor | None = None

    @property
    def totals(self) -> Tensor:
        """The sum of each response's rewards, [R]."""
        return self.rewards.sum(1)


@dataclass(frozen=True)
class Advantages:
    """``advantages`` [R, T]; ``returns`` [R, T], the targets of a value function (zero without one); ``scale`` [R].

    ``scale``: the number by which the estimator divided each response's rewards; infinite if it discarded them.
    """

    advantages: Tensor
    returns: Tensor
    scale: Tensor


def gae_estimate(inputs: AdvantageInputs) -> Advantages:
    """See ``gae``."""
    found, returns = gae(inputs.rewards, inputs.values, inputs.mask, inputs.gamma, inputs.gae_lambda)
    return Advantages(found, returns, _ones(inputs))


def returns_estimate(inputs: AdvantageInputs) -> Advantages:
    """See ``returns_to_go``."""
    found = returns_to_go(inputs.rewards, inputs.mask, inputs.gamma)
    return Advantages(found, torch.zeros_like(found), _ones(inputs))


def _per_response(inputs: AdvantageInputs, found: Tensor, scale: Tensor | None = None) -> Advantages:
    spread = spread_over_tokens(found, inputs.mask)
    return Advantages(spread, torch.zeros_like(spread), _ones(inputs) if scale is None else scale)


def rloo_estimate(inputs: AdvantageInputs) -> Advantages:
    """See ``rloo``."""
    return _per_response(inputs, rloo(inputs.totals, inputs.group_size))


def group_centered_estimate(inputs: AdvantageInputs) -> Advantages:
    """See ``group_centered``."""
    return _per_response(inputs, group_centered(inputs.totals, inputs.group_size))


def grpo_estimate(inputs: AdvantageInputs) -> Advantages:
    """See ``grpo``."""
    found = grpo(inputs.totals, inputs.group_size, GROUP_EPSILON)
    deviation = group_deviation(inputs.totals, inputs.group_size)
    return _per_response(inputs, found, (deviation + GROUP_EPSILON).masked_fill(deviation == 0, torch.inf))


def remax_estimate(inputs: AdvantageInputs) -> Advantages:
    """See ``remax``."""
    assert inputs.greedy_scores is not None
    return _per_response(inputs, remax(inputs.totals, inputs.greedy_scores, inputs.group_size))


def _ones(inputs: AdvantageInputs) -> Tensor:
    return torch.ones_like(inputs.totals)
