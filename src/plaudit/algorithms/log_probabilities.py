"""Log-probabilities of given tokens under a model's logits."""

import torch
from torch import Tensor

from plaudit.algorithms.masking import widened


def tempered(logits: Tensor, temperature: float) -> Tensor:
    """Return ``logits / temperature``, widened; use the temperature that the tokens were sampled with."""
    if temperature <= 0:
        raise ValueError(f"the temperature must be positive, not {temperature}: at 0 there are no log-probabilities")
    return widened(logits) / temperature


def token_log_probabilities(logits: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return ``log p(y) = z_y - log sum_v exp z_v`` with ``z = logits / temperature``, in nats.

    ``logits`` [tokens, vocabulary]; ``targets`` [tokens], the id that each row predicts; result [tokens].
    """
    scaled = tempered(logits, temperature)
    chosen = scaled.gather(-1, targets[:, None]).squeeze(-1)
    return chosen - torch.logsumexp(scaled, dim=-1)
