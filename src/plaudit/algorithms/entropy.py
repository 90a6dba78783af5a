"""The entropy of next-token distributions."""

import torch
from torch import Tensor

from plaudit.algorithms.log_probabilities import tempered


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """Return ``H = -sum_v p_v log p_v`` in nats, with ``p = softmax(logits / temperature)``.

    [tokens, vocabulary] -> [tokens]. Tokens that a logit of minus infinity forbids contribute zero. Source: Shannon
    1948.
    """
    log_probs = torch.log_softmax(tempered(logits, temperature), dim=-1)
    # A probability of zero times the least number is zero; times minus infinity it would be no number.
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    return -(log_probs.exp() * finite).sum(dim=-1)
