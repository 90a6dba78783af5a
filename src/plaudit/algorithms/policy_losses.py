"""Losses whose gradient raises the probability of tokens with a positive advantage: PPO, GSPO, plain policy gradient.

All tensors are [responses, time]: ``log_probs`` under the policy in training; ``old_log_probs`` under the policy that
sampled, at the same temperature; ``advantages``; ``mask``, true at real tokens; ``weights`` of the token losses (see
``aggregation``).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.algorithms.aggregation import weighted_sum
from plaudit.algorithms.kl import k3
from plaudit.algorithms.masking import widened, zero_masked


@dataclass(frozen=True)
class PolicyLoss:
    """Scalars. ``loss`` is the weighted sum over real tokens; the others carry no gradient.

    ``clipped`` counts the tokens whose gradient the clip removes; ``approximate_kl`` is the sum over real tokens of
    KL(old || new), estimated by k3; ``ratio_max`` the largest ratio, zero if there is no real token.
    """

    loss: Tensor
    clipped: Tensor
    approximate_kl: Tensor
    ratio_max: Tensor


@dataclass(frozen=True)
class Clip:
    """The ratio is kept in [1 - ``low``, 1 + ``high``]; with ``dual`` a token's loss never exceeds ``dual * |A|``.

    ``high`` above ``low`` is DAPO's clip-higher (Yu et al. 2025, equation 10), ``dual`` the dual clip (Ye et al. 2020,
    equation 5; above 1).
    """

    low: float
    high: float
    dual: float | None = None


def ppo_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, mask: Tensor, clip: Clip
) -> PolicyLoss:
    """Return the weighted sum over real tokens of ``-min(rho A, clip(rho, 1 - low, 1 + high) A)``.

    ``rho = exp(log_probs - old_log_probs)`` is the token's ratio. Source: Schulman et al. 2017, equation 7.
    """
    log_ratio = zero_masked(widened(log_probs) - widened(old_log_probs), mask)
    return _clipped(log_ratio.exp(), log_ratio, advantages, weights, mask, clip)


def gspo_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, mask: Tensor, clip: Clip
) -> PolicyLoss:
    """Return PPO's loss with the ratio of the whole response, ``s = exp(mean_t log rho_t)``, in place of each token's.

    The gradient of a token goes through its own log-probability: ``s_t = sg(s) rho_t / sg(rho_t)``. With an advantage
    per response and ``sequence_mean`` this is ``-mean_i min(s_i A_i, clip(s_i) A_i)``. Source: Zheng et al. 2025
    (GSPO), equations 5 to 7 and, for advantages per token, 14.
    """
    log_ratio = zero_masked(widened(log_probs) - widened(old_log_probs), mask)
    mean = log_ratio.sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
    ratio = (mean.detach() + log_ratio - log_ratio.detach()).exp()
    return _clipped(ratio, log_ratio, advantages, weights, mask, clip)


def policy_gradient_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, weights: Tensor, mask: Tensor, clip: Clip
) -> PolicyLoss:
    """Return the weighted sum over real tokens of ``-A log pi(y_t)``, without ratio or clipping.

    The gradient is correct only for the policy that sampled: use one epoch and one minibatch. Source: Williams 1992.
    """
    log_ratio = zero_masked(widened(log_probs) - widened(old_log_probs), mask)
    losses = -zero_masked(advantages, mask) * zero_masked(log_probs, mask)
    return _summed(losses, torch.zeros_like(mask), log_ratio.exp(), log_ratio, weights, mask)


def _clipped(
    ratio: Tensor, log_ratio: Tensor, advantages: Tensor, weights: Tensor, mask: Tensor, clip: Clip
) -> PolicyLoss:
    advantages = zero_masked(advantages, mask)
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip.low, 1 + clip.high)
    losses, removed = torch.maximum(unclipped, clipped), clipped > unclipped
    if clip.dual is not None:
        limit = clip.dual * advantages.abs()
        removed = removed | ((advantages < 0) & (losses > limit))
        losses = torch.where(advantages < 0, torch.minimum(losses, limit), losses)
    return _summed(losses, removed, ratio, log_ratio, weights, mask)


def _summed(
    losses: Tensor, clipped: Tensor, ratio: Tensor, log_ratio: Tensor, weights: Tensor, mask: Tensor
) -> PolicyLoss:
    change, real_ratio = log_ratio.detach(), ratio.detach()[mask]
    return PolicyLoss(
        loss=weighted_sum(losses, weights, mask),
        clipped=clipped.sum(),
        approximate_kl=k3(-change, torch.zeros_like(change)).sum(),
        ratio_max=torch.cat([real_ratio.new_zeros(1), real_ratio]).amax(),
    )
