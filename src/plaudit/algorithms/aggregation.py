"""The weight of each token's loss in the loss of a step."""

from torch import Tensor

from plaudit.algorithms.catalogue import Aggregation
from plaudit.algorithms.masking import widened, zero_masked


def token_weights(mask: Tensor, aggregation: Aggregation, tokens: int, responses: int) -> Tensor:
    """Return the weight of every token's loss, [responses, time], zero where ``mask`` is false::

        token_mean     1 / tokens            equal weight per token (Yu et al. 2025, DAPO, equation 8)
        sequence_mean  1 / (|y| responses)   equal weight per response, split over its tokens (Shao et al. 2024,
                                             equation 3)
        sequence_sum   1 / responses         the gradient of the expected reward (Liu et al. 2025, Dr. GRPO, up to a
                                             constant)

    ``tokens`` and ``responses`` count the whole step, over all micro-batches and processes; |y| is a response's length
    within ``mask``. With ``sequence_mean`` a token of a long response has less weight, which changes the optimum. The
    other two differ by a factor that is the same for all tokens of a step.
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

    mu is the distribution that the tokens were sampled from. It differs from the policy if another engine rounds
    differently, or if top_k or top_p cut tokens off. pi_old is the policy as training computed it at that time. The
    limit keeps the variance bounded. Source: Ionides 2008; Yao et al. 2025 (truncated importance sampling for
    mismatched engines).
    """
    return (widened(training_log_probs) - widened(sampling_log_probs)).exp().clamp(max=limit).detach()


def masked_importance_weights(
    training_log_probs: Tensor, sampling_log_probs: Tensor, low: float, high: float
) -> Tensor:
    """Return ``pi_old(y_t) / mu(y_t)`` if it is within [low, high], else zero; constants, as ``importance_weights``.

    A token on which training and sampling disagree strongly is dropped instead of weighted by the limit. Source: Ling
    Team 2025, Every Step Evolves (IcePop), with low 0.5 and high 5.
    """
    ratios = (widened(training_log_probs) - widened(sampling_log_probs)).exp().detach()
    return ratios.where((ratios >= low) & (ratios <= high), 0.0)
