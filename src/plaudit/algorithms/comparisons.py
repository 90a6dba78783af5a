"""All comparisons that the ranked responses of prompts imply, and how well scores agree with them.

Responses lie flat: ``scores`` [responses], ``prompts`` [responses] (an integer that tells whose response it is, in any
order), ``ranks`` [responses] (0 is best, equal ranks are ties). Prompts may have different numbers of responses.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.algorithms.masking import widened


@dataclass(frozen=True)
class Pairs:
    """Pairs of responses to one prompt that differ in rank: indices into the flat responses, [pairs] each."""

    better: Tensor
    worse: Tensor


@dataclass(frozen=True)
class ComparisonStatistics:
    """Scalars, sums over pairs: their number, how many the scores order rightly (a tie is half), the score gaps."""

    pairs: Tensor
    correct: Tensor
    margin: Tensor


def ranked_pairs(prompts: Tensor, ranks: Tensor) -> Pairs:
    """Return every pair of responses to the same prompt with different ranks, each pair once.

    K responses without ties make K (K - 1) / 2 pairs. Work and memory grow with the sum of K^2.
    """
    order = torch.argsort(prompts, stable=True)
    _, sizes = torch.unique_consecutive(prompts[order], return_counts=True)
    starts = sizes.cumsum(0) - sizes
    # Every response meets every response of its prompt: the k-th meeting of a response is with the k-th of its prompt.
    size, start = sizes.repeat_interleave(sizes), starts.repeat_interleave(sizes)
    first = torch.arange(len(order), device=order.device).repeat_interleave(size)
    meeting = torch.arange(len(first), device=order.device) - (size.cumsum(0) - size)[first]
    one, other = order[first], order[start[first] + meeting]
    differ = ranks[one] < ranks[other]
    return Pairs(better=one[differ], worse=other[differ])


def score_gaps(scores: Tensor, pairs: Pairs) -> Tensor:
    """Return ``s_better - s_worse`` of each pair, [pairs]."""
    scores = widened(scores)
    return scores[pairs.better] - scores[pairs.worse]


def comparison_statistics(gaps: Tensor) -> ComparisonStatistics:
    """Return the sums over pairs that accuracy and mean margin come from; ``gaps`` [pairs], see ``score_gaps``."""
    gaps = widened(gaps)
    correct = (gaps > 0).sum() + (gaps == 0).sum() / 2
    return ComparisonStatistics(pairs=torch.tensor(len(gaps), device=gaps.device), correct=correct, margin=gaps.sum())


def calibration_table(gaps: Tensor, bins: int) -> Tensor:
    """Return ``[pairs, sum of predicted, sum of right]`` for each bin of the predicted probability, [bins, 3].

    Of each pair the response with the higher score is predicted to be better, with ``P = sigmoid(|gap|)`` in [0.5, 1];
    ``gaps`` [pairs], see ``score_gaps``. Bins have equal width; equal scores predict 0.5 and are half right. Tables of
    several batches add up.
    """
    gaps = widened(gaps)
    predicted = torch.sigmoid(gaps.abs())
    right = (torch.sign(gaps) + 1) / 2
    index = ((predicted - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    columns = torch.stack([torch.ones_like(predicted), predicted, right], dim=1)
    return columns.new_zeros(bins, 3).index_add(0, index, columns)


def expected_calibration_error(table: Tensor) -> Tensor:
    """Return ``sum_b n_b / n |share right in b - mean predicted in b|`` as a scalar; zero without pairs.

    ``table`` [bins, 3] comes from ``calibration_table``. Source: Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    pairs, predicted, right = table.unbind(dim=1)
    return (right - predicted).abs().sum() / pairs.sum().clamp(min=1)
