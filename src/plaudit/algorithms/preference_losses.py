"""Losses of a reward model over prompts with ranked responses. All are sums over prompts.

Divide by the number of counted prompts over all micro-batches and processes. The responses of all prompts are stored
flat, as in ``comparisons``: ``scores``, ``prompts`` and ``ranks`` are [responses].
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from plaudit.algorithms.comparisons import Pairs, ranked_pairs, score_gaps
from plaudit.algorithms.masking import widened


@dataclass(frozen=True)
class PreferenceLoss:
    """Scalars: the loss summed over prompts, and the number of prompts that were counted."""

    loss: Tensor
    prompts: Tensor


def pairwise_ranking_loss(
    scores: Tensor, prompts: Tensor, ranks: Tensor, margin: float, *, pairs: Pairs | None = None
) -> PreferenceLoss:
    """Return the sum over prompts of the mean over a prompt's pairs of::

        -log sigmoid(s_b - s_w - margin (k_w - k_b))

    b and w are the better and the worse response of a pair, k their ranks; ties form no pair, and a prompt without
    pairs is not counted. ``pairs``: the result of ``ranked_pairs``, if the caller already has it. Source: Ouyang et al.
    2022 (InstructGPT), equation 1; margin: Touvron et al. 2023, equation 2.
    """
    pairs = pairs or ranked_pairs(prompts, ranks)
    rank_gaps = (ranks[pairs.worse] - ranks[pairs.better]).to(widened(scores))
    losses = -logsigmoid(score_gaps(scores, pairs) - margin * rank_gaps)
    return mean_within_prompts(losses, prompts[pairs.better])


def best_of_k_loss(scores: Tensor, prompts: Tensor, ranks: Tensor) -> PreferenceLoss:
    """Return the sum over prompts of ``-mean_b log softmax(s)_b``, with the softmax over a prompt's K responses.

    b runs over the responses of the best rank: the target is split evenly between ties for the best. A prompt whose
    responses all have the same rank is not counted. Source: Ziegler et al. 2019, equation 1.
    """
    index, column, size = _table_index(prompts)
    log_probs = _table(scores, index, column, size, -torch.inf).log_softmax(dim=1)[index, column]
    best_rank = ranks.new_zeros(len(size)).scatter_reduce(0, index, ranks, "amin", include_self=False)
    best = ranks == best_rank[index]
    best_count = torch.bincount(index[best], minlength=len(size))
    counted = best_count < size
    target = (best & counted[index]) / best_count[index]
    return PreferenceLoss(loss=-(target * log_probs).sum(), prompts=counted.sum())


def centering_penalty(scores: Tensor, prompts: Tensor) -> PreferenceLoss:
    """Return the sum over prompts of ``(mean of the prompt's scores)^2``; every prompt counts.

    Comparisons determine scores only up to a constant per prompt; this penalty keeps them near zero. Source: Eisenstein
    et al. 2023 (who use the sum of a pair's scores instead of their mean, which is four times as large).
    """
    index, column, size = _table_index(prompts)
    means = _table(scores, index, column, size, 0.0).sum(dim=1) / size
    return PreferenceLoss(loss=means.square().sum(), prompts=torch.tensor(len(size), device=scores.device))


def mean_within_prompts(losses: Tensor, prompts: Tensor) -> PreferenceLoss:
    """Return the sum over prompts of the mean of a prompt's losses.

    ``losses`` and ``prompts`` (the prompt's index) have one shape, [pairs] or [responses]; a prompt without a loss is
    not counted.
    """
    _, index, counts = torch.unique(prompts, return_inverse=True, return_counts=True)
    return PreferenceLoss(
        loss=(widened(losses) / counts[index]).sum(), prompts=torch.tensor(len(counts), device=losses.device)
    )


def _table_index(prompts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return each response's row and column in a [prompts, K] table, [responses] each, and the sizes K, [prompts]."""
    _, index, size = torch.unique(prompts, return_inverse=True, return_counts=True)
    order = torch.argsort(index, stable=True)
    starts = size.cumsum(0) - size
    column = torch.empty_like(order)
    column[order] = torch.arange(len(order), device=order.device) - starts[index[order]]
    return index, column, size


def _table(scores: Tensor, index: Tensor, column: Tensor, size: Tensor, fill: float) -> Tensor:
    """Return the scores as a table [prompts, largest K] with ``fill`` where a prompt has fewer responses."""
    width = int(size.max()) if len(size) else 0
    empty = widened(scores).new_full((len(size), width), fill)
    return empty.index_put((index, column), widened(scores))
