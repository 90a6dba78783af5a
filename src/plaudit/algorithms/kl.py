"""Estimators of KL(policy || reference) from the log-probabilities of tokens that the policy sampled.

Source: Schulman, "Approximating KL divergence" (2020). With ``d = log pi(y) - log pi_ref(y)`` and y drawn from pi,
``k1`` and ``k3`` have the mean ``KL = E[d]``, and ``k2`` comes near it while the two policies are close. As a term of a
loss it is the gradient of ``k2`` that is right: that of ``k1`` is zero on average, and that of ``k3`` belongs to
KL(reference || policy).
"""

import torch
from torch import Tensor

from plaudit.algorithms.masking import widened, zero_masked


def k1(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Return ``d`` per token: unbiased, of either sign. All tensors have any one shape."""
    return widened(log_probs) - widened(reference_log_probs)


def k2(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Return ``d^2 / 2`` per token: biased, little variance, never negative. All tensors have any one shape."""
    return k1(log_probs, reference_log_probs).square() / 2


def k3(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Return ``exp(-d) - 1 + d`` per token: unbiased and never negative. All tensors have any one shape."""
    difference = k1(log_probs, reference_log_probs)
    return torch.expm1(-difference) + difference


def sequence_kl(kl: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_t m_t kl_t`` of each response: [responses, time] -> [responses], in nats per response."""
    return zero_masked(kl, mask).sum(dim=1)
