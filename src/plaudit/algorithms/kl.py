"""Estimators of KL(policy || reference) from the log-probabilities of tokens that the policy sampled.

Source: Schulman, "Approximating KL divergence" (2020). With ``d = log pi(y) - log pi_ref(y)`` and y drawn from pi,
``k1`` and ``k3`` have the mean ``KL = E[d]``, and the mean of ``k2`` is close to it while the two policies are close.

Their gradients are not those of the KL. Differentiated directly, only ``k2`` gives the gradient of the KL of the next
token; the gradient of ``k1`` is zero on average, and the gradient of ``k3`` is that of KL(reference || policy). All
three also ignore that a token changes the distribution of later tokens, and with it their KL. ``kl_loss`` and
``own_token_correction`` give the gradient of the KL of whole responses for every estimator.
"""

from collections.abc import Callable

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


ESTIMATORS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"k1": k1, "k2": k2, "k3": k3}


def kl_loss(
    log_probs: Tensor, old_log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor, estimator: str
) -> Tensor:
    """Return ``k_t`` per token [responses, time], whose gradient is that of the KL of whole responses::

        grad = sum_t rho_t (d_t + sum_{s > t} k_s) grad log pi(y_t)

    d_t is the token's own term, the sum is its effect on later tokens, and k is one of ``ESTIMATORS`` (exact for k1 and
    k3; with k2 the later terms have the bias of k2). ``rho_t`` (a constant) corrects for the change of the policy since
    it sampled. Zeros at masked positions. Source: the policy-gradient theorem applied to KL; Tang & Munos 2025, who
    show the error that is made without the later terms.
    """
    own = zero_masked(k1(log_probs, reference_log_probs), mask)
    values = zero_masked(ESTIMATORS[estimator](log_probs, reference_log_probs), mask).detach()
    later = values.flip(1).cumsum(1).flip(1) - values
    ratio = zero_masked(widened(log_probs) - widened(old_log_probs), mask).detach().exp()
    log_probs = zero_masked(log_probs, mask)
    return values + ratio * (own.detach() + later) * (log_probs - log_probs.detach())


def own_token_correction(log_probs: Tensor, reference_log_probs: Tensor, mask: Tensor, estimator: str) -> Tensor:
    """Return ``k_t - d_t`` per token [responses, time]; multiply by the coefficient and add to the advantages.

    A KL penalty in the reward has the gradient ``k_t grad log pi(y_t)``. For k1 that is the gradient of the KL; for k2
    and k3 the value is correct but the gradient of the token's own term is not. The correction makes the own term d_t
    and leaves the later terms to the estimator. Zero for k1.
    """
    values = ESTIMATORS[estimator](log_probs, reference_log_probs)
    return zero_masked(values - k1(log_probs, reference_log_probs), mask)
