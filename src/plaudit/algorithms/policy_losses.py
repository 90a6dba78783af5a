"""The losses of PPO: clipped policy loss, clipped value loss. Both are sums over real tokens.

Divide by the number of real tokens of the whole step, over all micro-batches and processes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.algorithms.kl import k3
from plaudit.algorithms.masking import masked_sum, widened, zero_masked


@dataclass(frozen=True)
class PolicyLoss:
    """Scalars. All but ``ratio_max`` are sums over real tokens, and all but ``loss`` carry no gradient.

    ``clipped`` counts the tokens whose gradient the clip removes. ``approximate_kl`` estimates KL(old || new) by k3.
    ``ratio_max`` is zero when there is no real token.
    """

    loss: Tensor
    clipped: Tensor
    approximate_kl: Tensor
    ratio_max: Tensor


@dataclass(frozen=True)
class ValueLoss:
    """Scalars: the loss summed over real tokens, and the number of tokens whose gradient the clip removes."""

    loss: Tensor
    clipped: Tensor


def clipped_policy_loss(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> PolicyLoss:
    """Return the sum over real tokens of ``-min(rho A, clip(rho, 1 - clip, 1 + clip) A)``.

    ``rho = exp(log_probs - old_log_probs)``. All tensors are [responses, time]; the old log-probabilities are those of
    the policy that sampled, at the same temperature. Source: Schulman et al. 2017, equation 7.
    """
    log_ratio = zero_masked(widened(log_probs) - widened(old_log_probs), mask)
    advantages = zero_masked(advantages, mask)
    ratio = log_ratio.exp()
    unclipped = -advantages * ratio
    clipped = -advantages * ratio.clamp(1 - clip, 1 + clip)
    change, real_ratio = log_ratio.detach(), ratio.detach()[mask]
    return PolicyLoss(
        loss=masked_sum(torch.maximum(unclipped, clipped), mask),
        clipped=(clipped > unclipped).sum(),
        approximate_kl=k3(-change, torch.zeros_like(change)).sum(),
        ratio_max=torch.cat([real_ratio.new_zeros(1), real_ratio]).amax(),
    )


def clipped_value_loss(
    values: Tensor, old_values: Tensor, returns: Tensor, mask: Tensor, clip: float | None
) -> ValueLoss:
    """Return the sum over real tokens of ``max((V - R)^2, (V_clipped - R)^2) / 2``.

    ``V_clipped = clip(V, V_old - clip, V_old + clip)``; without a clip, ``(V - R)^2 / 2``. All tensors are
    [responses, time]. Source: Schulman et al. 2017 (code), Ziegler et al. 2019 (code).
    """
    values, returns = zero_masked(values, mask), zero_masked(returns, mask)
    unclipped = (values - returns).square()
    if clip is None:
        return ValueLoss(loss=unclipped.sum() / 2, clipped=torch.zeros_like(mask.sum()))
    old_values = zero_masked(old_values, mask)
    clipped = (values.clamp(old_values - clip, old_values + clip) - returns).square()
    return ValueLoss(loss=torch.maximum(unclipped, clipped).sum() / 2, clipped=(clipped > unclipped).sum())
