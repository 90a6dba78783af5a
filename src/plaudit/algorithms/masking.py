"""Sums, means, variances and whitening over the real tokens of padded tensors.

In this package ``mask`` is a bool tensor that is true at real tokens. Values at other positions, even NaN, affect
neither results nor gradients. Numbers narrower than float32 are converted to float32 before they are summed.
"""

import torch
from torch import Tensor

WHITENING_EPSILON = 1e-8
"""Added to the variance, so that equal values become zeros and not NaN."""

ROUNDING = 1e-6
"""A standard deviation below this fraction of the mean is taken for float32 rounding and counts as zero."""


def widened(values: Tensor) -> Tensor:
    """Return ``values`` as float32; float64 is kept."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


def zero_masked(values: Tensor, mask: Tensor) -> Tensor:
    """Return widened ``values`` with zeros where ``mask`` is false; the gradient there is zero too.

    Raises ``ValueError`` when the shapes differ (nothing is broadcast by accident) or the mask is not bool.
    """
    if mask.dtype != torch.bool:
        raise ValueError(f"the mask must be bool, not {mask.dtype}")
    if values.shape != mask.shape:
        raise ValueError(f"values {tuple(values.shape)} and mask {tuple(mask.shape)} differ in shape")
    return widened(values).masked_fill(~mask, 0.0)


def masked_sum(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_i m_i x_i`` as a scalar; ``values`` and ``mask`` have any one shape."""
    return zero_masked(values, mask).sum()


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_i m_i x_i / sum_i m_i`` as a scalar; zero when nothing is real."""
    return masked_sum(values, mask) / mask.sum().clamp(min=1)


def masked_variance(values: Tensor, mask: Tensor) -> Tensor:
    """Return the population variance ``sum_i m_i (x_i - mean)^2 / sum_i m_i``, a scalar; zero when nothing is real."""
    real = zero_masked(values, mask)
    return masked_mean((real - masked_mean(real, mask)).square(), mask)


def moments(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``[count, sum, sum of squares]`` of the real values, [3].

    Sum them over micro-batches and processes; ``mean_and_variance`` turns the total into the arguments of
    ``whiten_with``. They are float64 (float32 on MPS, which has no float64), because the variance is a small difference
    of large sums.
    """
    exact = torch.float32 if values.device.type == "mps" else torch.float64
    real = zero_masked(values, mask).to(exact)
    return torch.stack([mask.sum().to(exact), real.sum(), real.square().sum()])


def mean_and_variance(totals: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean ``S1/n`` and the population variance ``S2/n - (S1/n)^2`` of ``moments`` ``[n, S1, S2]``."""
    count, total, squares = totals.unbind()
    count = count.clamp(min=1)
    mean = total / count
    return mean, (squares / count - mean.square()).clamp(min=0)


def whiten_with(values: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return ``(x - mean) / sqrt(variance + 1e-8)``, elementwise, any shape.

    Masked positions are transformed as well; their values stay meaningless. Mean and variance are scalars over the
    tokens of all processes (see ``moments``).
    """
    values = widened(values)
    return (values - mean.to(values)) * torch.rsqrt(variance + WHITENING_EPSILON).to(values)


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Return ``values`` with mean 0 and variance 1 over all real tokens; zeros elsewhere.

    Mean and population variance are those of this tensor; with several processes use ``moments`` and ``whiten_with``.
    Source: Ziegler et al. 2019, whose code whitens advantages in this way.
    """
    real = zero_masked(values, mask)
    return zero_masked(whiten_with(real, masked_mean(real, mask), masked_variance(real, mask)), mask)


def explained_variance_with(residual_moments: Tensor, return_moments: Tensor) -> Tensor:
    """Return ``1 - Var[R - V] / Var[R]`` as a scalar, from the ``moments`` of ``R - V`` and of ``R``, [3] each.

    1: the values predict the returns up to a constant; 0: no better than a constant; below 0: worse. Zero, by
    definition, if the returns do not vary.
    """
    _, unexplained = mean_and_variance(residual_moments)
    mean, variance = mean_and_variance(return_moments)
    varies = variance > (ROUNDING * mean).square()
    return torch.where(varies, 1 - unexplained / variance.masked_fill(~varies, 1.0), 0.0)


def explained_variance(values: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """Return ``1 - Var[R - V] / Var[R]`` over the real tokens as a scalar; all arguments [responses, time]."""
    residual = widened(returns) - widened(values)
    return explained_variance_with(moments(residual, mask), moments(returns, mask))
