"""The loss of the value function."""

from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.algorithms.masking import zero_masked


@dataclass(frozen=True)
class ValueLoss:
    """Scalars: the loss summed over real tokens, and the number of tokens whose gradient the clip removes."""

    loss: Tensor
    clipped: Tensor


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
