"""Log-probabilities of response tokens without a whole [tokens, vocabulary] array."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from plaudit.algorithms.entropy import entropy
from plaudit.algorithms.language_modeling import likeliest_is_target
from plaudit.algorithms.log_probabilities import token_log_probabilities
from plaudit.models.heads.output_head import OutputHead
from plaudit.models.heads.rowwise import by_rows

LOGIT_BYTES = 256 * 2**20  # float32 logits in memory at once; larger arrays are computed and recomputed in chunks
SMALLEST_CHUNK = 128  # rows; with smaller chunks the recomputation costs more than the memory is worth

Extras = Literal["none", "measured", "differentiable"]
"""Whether entropies and the most likely token are computed as well, and whether entropies carry a gradient."""


@dataclass(frozen=True)
class TokenStatistics:
    """Per response token, each [N]: log-probability, entropy in nats, and whether it is the most likely token."""

    log_probabilities: Tensor
    entropies: Tensor | None = None
    likeliest: Tensor | None = None


def token_statistics(
    head: OutputHead, hidden: Tensor, targets: Tensor, temperature: float = 1.0, extras: Extras = "none"
) -> TokenStatistics:
    """Return statistics of ``targets`` [N] under ``head(hidden)``, where ``hidden`` is [N, hidden size].

    The temperature divides the logits, as in sampling.
    """
    compute = _statistics_of_chunk(head, temperature, extras)
    chunk = max(SMALLEST_CHUNK, LOGIT_BYTES // (4 * head.vocabulary))
    if hidden.shape[0] <= chunk:
        return TokenStatistics(*compute(hidden, targets))
    parts = [
        checkpoint(compute, *part, use_reentrant=False) if torch.is_grad_enabled() else compute(*part)
        for part in zip(hidden.split(chunk), targets.split(chunk), strict=True)
    ]
    return TokenStatistics(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _statistics_of_chunk(
    head: OutputHead, temperature: float, extras: Extras
) -> Callable[[Tensor, Tensor], tuple[Tensor, ...]]:
    def of_rows(logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return the statistics of each row, as ``extras`` selects them."""
        log_probabilities = token_log_probabilities(logits, targets, temperature)
        if extras == "none":
            return (log_probabilities,)
        entropies = entropy(logits if extras == "differentiable" else logits.detach(), temperature)
        return log_probabilities, entropies, likeliest_is_target(logits.detach(), targets)

    return lambda hidden, targets: by_rows(of_rows, head(hidden), targets)
