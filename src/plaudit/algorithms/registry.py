"""The advantage estimators and policy losses by name: equation, source, what each needs, and its own defaults."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.algorithms.advantages import (
    gae,
    group_centred,
    group_deviation,
    grpo,
    remax,
    returns_to_go,
    rloo,
    spread_over_tokens,
)
from plaudit.algorithms.aggregation import Aggregation
from plaudit.algorithms.policy_losses import Clip, PolicyLoss, gspo_loss, policy_gradient_loss, ppo_loss

GROUP_EPSILON = 1e-6
"""Added to the standard deviation of a group's scores."""


@dataclass(frozen=True)
class AdvantageInputs:
    """What advantages are made of, with R responses of at most T tokens to P prompts, ``group_size`` to each.

    ``rewards``, ``values`` and ``mask`` are [R, T] (values are zero for estimators without a value function);
    ``greedy_scores`` [P] are the scores of greedy responses, for the estimators that ask for them.
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
    """``advantages`` [R, T]; ``returns`` [R, T], what a value function learns (zero without one); ``scale`` [R].

    ``scale`` is what the estimator divided the rewards of each response by; infinite where it made nothing of them.
    """

    advantages: Tensor
    returns: Tensor
    scale: Tensor


@dataclass(frozen=True)
class AdvantageEstimator:
    """An entry of ``ADVANTAGES``.

    ``uses_values``: needs a value function. ``least_group``: least number of responses to a prompt. ``uses_greedy``:
    needs the score of a greedy response to each prompt. ``whitens``: advantages are whitened over all tokens of a round
    unless the configuration says otherwise.
    """

    equation: str
    paper: str
    estimate: Callable[[AdvantageInputs], Advantages]
    uses_values: bool = False
    least_group: int = 1
    uses_greedy: bool = False
    whitens: bool = False


@dataclass(frozen=True)
class PolicyLossEntry:
    """An entry of ``POLICY_LOSSES``, with the defaults of its paper."""

    equation: str
    paper: str
    function: Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, Clip], PolicyLoss]
    aggregation: Aggregation
    clip_low: float = 0.0
    clip_high: float = 0.0


# How each estimator uses its equation --------------------------------------------------------------------------------


def _gae(inputs: AdvantageInputs) -> Advantages:
    found, returns = gae(inputs.rewards, inputs.values, inputs.mask, inputs.gamma, inputs.gae_lambda)
    return Advantages(found, returns, _ones(inputs))


def _returns_to_go(inputs: AdvantageInputs) -> Advantages:
    found = returns_to_go(inputs.rewards, inputs.mask, inputs.gamma)
    return Advantages(found, torch.zeros_like(found), _ones(inputs))


def _per_response(inputs: AdvantageInputs, found: Tensor, scale: Tensor | None = None) -> Advantages:
    spread = spread_over_tokens(found, inputs.mask)
    return Advantages(spread, torch.zeros_like(spread), _ones(inputs) if scale is None else scale)


def _rloo(inputs: AdvantageInputs) -> Advantages:
    return _per_response(inputs, rloo(inputs.totals, inputs.group_size))


def _group_centred(inputs: AdvantageInputs) -> Advantages:
    return _per_response(inputs, group_centred(inputs.totals, inputs.group_size))


def _grpo(inputs: AdvantageInputs) -> Advantages:
    found = grpo(inputs.totals, inputs.group_size, GROUP_EPSILON)
    deviation = group_deviation(inputs.totals, inputs.group_size)
    return _per_response(inputs, found, (deviation + GROUP_EPSILON).masked_fill(deviation == 0, torch.inf))


def _remax(inputs: AdvantageInputs) -> Advantages:
    assert inputs.greedy_scores is not None
    return _per_response(inputs, remax(inputs.totals, inputs.greedy_scores, inputs.group_size))


def _ones(inputs: AdvantageInputs) -> Tensor:
    return torch.ones_like(inputs.totals)


ADVANTAGES: dict[str, AdvantageEstimator] = {
    "gae": AdvantageEstimator(
        "A_t = sum_{l >= 0} (gamma lambda)^l delta_{t+l},  delta_t = r_t + gamma V_{t+1} - V_t",
        "Schulman et al. 2015, arXiv:1506.02438",
        _gae,
        uses_values=True,
        whitens=True,
    ),
    "rloo": AdvantageEstimator(
        "A_i = r_i - mean_{j != i} r_j",
        "Kool et al. 2019; Ahmadian et al. 2024, arXiv:2402.14740",
        _rloo,
        least_group=2,
    ),
    "grpo": AdvantageEstimator(
        "A_i = (r_i - mean r) / std r", "Shao et al. 2024, arXiv:2402.03300", _grpo, least_group=2
    ),
    "dr_grpo": AdvantageEstimator(
        "A_i = r_i - mean r", "Liu et al. 2025, arXiv:2503.20783", _group_centred, least_group=2
    ),
    "reinforce++": AdvantageEstimator(
        "A_t = whitened over the round: sum_{s >= t} gamma^{s-t} r_s",
        "Hu et al. 2025, arXiv:2501.03262",
        _returns_to_go,
        whitens=True,
    ),
    "reinforce++_baseline": AdvantageEstimator(
        "A_i = whitened over the round: r_i - mean r of its group",
        "Hu et al. 2025, arXiv:2501.03262",
        _group_centred,
        least_group=2,
        whitens=True,
    ),
    "remax": AdvantageEstimator(
        "A_i = r_i - r(greedy response)", "Li et al. 2023, arXiv:2310.10505", _remax, uses_greedy=True
    ),
}

POLICY_LOSSES: dict[str, PolicyLossEntry] = {
    "ppo": PolicyLossEntry(
        "-min(rho_t A_t, clip(rho_t, 1 - low, 1 + high) A_t)",
        "Schulman et al. 2017, arXiv:1707.06347",
        ppo_loss,
        "token_mean",
        clip_low=0.2,
        clip_high=0.2,
    ),
    "gspo": PolicyLossEntry(
        "-min(s A, clip(s, 1 - low, 1 + high) A),  s = exp(mean_t log rho_t)",
        "Zheng et al. 2025, arXiv:2507.18071",
        gspo_loss,
        "sequence_mean",
        clip_low=3e-4,
        clip_high=4e-4,
    ),
    "policy_gradient": PolicyLossEntry(
        "-A_t log pi(y_t)", "Williams 1992, doi:10.1007/BF00992696", policy_gradient_loss, "token_mean"
    ),
}
