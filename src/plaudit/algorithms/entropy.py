"""The entropy of next-token distributions."""

import torch
from torch import Tensor

from plaudit.algorithms.log_probabilities import tempered


def entropy(logits: Tensor, temperature: float) -> Tensor:
    """Return ``H = -sum_v p_v log p_v`` in nats, with ``p = softmax(logits / temperature)``.

    [tokens, vocabulary] -> [tokens]. Tokens whose logit is minus infinity contribute zero. Source: Shannon 1948.
    """
    log_probs = torch.log_softmax(tempered(logits, temperature), dim=-1)
    # Zero times the smallest finite number is zero; zero times minus infinity would be NaN.
    finite = log_probs.clamp(min=torch.finfo(log_probs.dtype).min)
    return -(log_probs.exp() * finite).sum(dim=-1)
