"""Direct preference optimization without a reference: losses on length-normalized log-probabilities.

All are sums over prompts of the mean over a prompt's pairs, as in ``direct_preference_losses``. The responses of all
prompts are stored flat: ``log_probabilities`` (sums over a response's tokens, in nats), ``lengths`` (tokens, EOS
included), ``prompts`` and ``ranks`` are [responses]. With |y| the length,

    l(y) = log pi(y | x) / |y|,    the mean log-probability of a token.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.algorithms.comparisons import Pairs, ranked_pairs, score_gaps
from plaudit.algorithms.masking import widened
from plaudit.algorithms.preference_losses import PreferenceLoss, mean_within_prompts

LARGEST_MEAN = -1e-6
"""Mean log-probabilities are clamped to at most this, so that odds stay finite."""


def per_token(log_probabilities: Tensor, lengths: Tensor) -> Tensor:
    """Return ``l(y) = log pi(y | x) / |y|``, [responses]."""
    return widened(log_probabilities) / lengths


def simpo_loss(
    log_probabilities: Tensor,
    lengths: Tensor,
    prompts: Tensor,
    ranks: Tensor,
    beta: float,
    margin: float,
    *,
    pairs: Pairs | None = None,
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs of::

        -log sigmoid(beta l(b) - beta l(w) - margin)

    ``beta l`` is the implicit reward. If b is preferred with probability P, the gap at the minimum is
    ``margin + log P / (1 - P)``. For a pair that is always judged the same way the gap grows without bound, and only
    the learning rate keeps the policy near its start. Source: Meng et al. 2024, equation 6, with margin for its gamma.
    """
    pairs = pairs or ranked_pairs(prompts, ranks)
    losses = -logsigmoid(beta * score_gaps(per_token(log_probabilities, lengths), pairs) - margin)
    return mean_within_prompts(losses, prompts[pairs.better])


def orpo_loss(
    log_probabilities: Tensor,
    lengths: Tensor,
    prompts: Tensor,
    ranks: Tensor,
    beta: float,
    *,
    pairs: Pairs | None = None,
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs of::

        -l(b) - beta log sigmoid(log odds(b) - log odds(w)),   odds(y) = p / (1 - p),   p = exp(l(y))

    The first term is fine-tuning on the better response, so training starts from a pre-trained model and replaces SFT.
    It converges to the distribution of the better responses, tilted by the second term. For pairs that are always
    judged the same way, the second term has no finite minimum, but its gradient vanishes as the gap grows. Source: Hong
    et al. 2024, equations 6 and 7, with beta for its lambda.
    """
    pairs = pairs or ranked_pairs(prompts, ranks)
    means = per_token(log_probabilities, lengths)
    losses = -means[pairs.better] - beta * logsigmoid(score_gaps(log_odds(means), pairs))
    return mean_within_prompts(losses, prompts[pairs.better])


def log_odds(log_p: Tensor) -> Tensor:
    """Return ``log p / (1 - p)`` from ``log p < 0``, elementwise; exact for p near 0 and near 1 (Mächler 2012)."""
    log_p = widened(log_p).clamp(max=LARGEST_MEAN)
    near_one = log_p > -math.log(2)
    # Each formula is exact where the other one rounds. Both are differentiated everywhere, so each gets a harmless
    # value where it is not used.
    small = torch.log1p(-torch.exp(log_p.masked_fill(near_one, -1.0)))
    large = torch.log(-torch.expm1(log_p.masked_fill(~near_one, -0.5)))
    return log_p - torch.where(near_one, large, small)
