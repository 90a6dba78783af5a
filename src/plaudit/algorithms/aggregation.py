"""How the losses of tokens become the loss of a step: the weight of each token, explicitly."""

from torch import Tensor

from plaudit.algorithms.catalogue import Aggregation
from plaudit.algorithms.masking import widened, zero_masked


def token_weights(mask: Tensor, aggregation: Aggregation, tokens: int, responses: int) -> Tensor:
    """Return the weight of every token's loss, [responses, time], zero where ``mask`` is false::

        token_mean     1 / tokens            every token alike (Yu et al. 2025, DAPO, equation 8)
        sequence_mean  1 / (|y| responses)   every response alike, split over its tokens (Shao et al. 2024, equation 3)
        sequence_sum   1 / responses         the gradient of the expected reward (Liu et al. 2025, Dr. GRPO, up to a
                                             constant)

    ``tokens`` and ``responses`` are those of the whole step, over all micro-batches and processes: |y| is the length
    within ``mask``. With ``sequence_mean`` a token of a long response weighs less, which changes the optimum; the other
    two differ by a factor that is the same for all tokens of a step.
    """
    if aggregation == "token_mean":
        return mask / max(tokens, 1)
    per_response = mask.float() / max(responses, 1)
    return per_response / mask.sum(1, keepdim=True).clamp(min=1) if aggregation == "sequence_mean" else per_response


def weighted_sum(values: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Return ``sum_i w_i x_i`` over the real tokens as a scalar; all arguments have one shape."""
    return (zero_masked(values, mask) * widened(weights)).sum()


def importance_weights(training_log_probs: Tensor, sampling_log_probs: Tensor, limit: float) -> Tensor:
    """Return ``min(pi_old(y_t) / mu(y_t), limit)`` per token, any shape; constants of the losses.

    mu is the distribution that really sampled: another engine's rounding, or what top_k and top_p left of the policy;
    pi_old is the policy as training computes it at that moment. Truncation keeps the variance bounded. Source: Ionides
    2008; Yao et al. 2025 (truncated importance sampling for mismatched engines).
    """
    return (widened(training_log_probs) - widened(sampling_log_probs)).exp().clamp(max=limit).detach()
