"""All pairwise comparisons implied by the ranked responses of prompts, and how well scores agree with them.

The responses of all prompts are stored flat: ``scores`` [responses], ``prompts`` [responses] (an integer per prompt, in
any order), ``ranks`` [responses] (0 is best, equal ranks are ties). Prompts may have different numbers of responses.
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
    """Scalars, sums over pairs: their number, how many the scores order correctly (a tie is half), the score gaps."""

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
    # Pair every response with every response to its prompt; ``second`` counts from the prompt's first response.
    size, start = sizes.repeat_interleave(sizes), starts.repeat_interleave(sizes)
    first = torch.arange(len(order), device=order.device).repeat_interleave(size)
    second = torch.arange(len(first), device=order.device) - (size.cumsum(0) - size)[first]
    one, other = order[first], order[start[first] + second]
    differ = ranks[one] < ranks[other]
    return Pairs(better=one[differ], worse=other[differ])


def score_gaps(scores: Tensor, pairs: Pairs) -> Tensor:
    """Return ``s_better - s_worse`` of each pair, [pairs]."""
    scores = widened(scores)
    return scores[pairs.better] - scores[pairs.worse]


def comparison_statistics(gaps: Tensor) -> ComparisonStatistics:
    """Return the sums from which accuracy and mean margin are computed; ``gaps`` [pairs], see ``score_gaps``."""
    gaps = widened(gaps)
    correct = (gaps > 0).sum() + (gaps == 0).sum() / 2
    return ComparisonStatistics(pairs=torch.tensor(len(gaps), device=gaps.device), correct=correct, margin=gaps.sum())


def calibration_table(gaps: Tensor, bins: int) -> Tensor:
    """Return ``[pairs, sum of predicted, number correct]`` for each bin of the predicted probability, [bins, 3].

    The response with the higher score is predicted to be the better one, with ``P = sigmoid(|gap|)`` in [0.5, 1];
    ``gaps`` [pairs], see ``score_gaps``. Bins have equal width; equal scores predict 0.5 and count as half correct.
    Tables of several batches can be added.
    """
    gaps = widened(gaps)
    predicted = torch.sigmoid(gaps.abs())
    correct = (torch.sign(gaps) + 1) / 2
    index = ((predicted - 0.5) * 2 * bins).long().clamp(max=bins - 1)
    columns = torch.stack([torch.ones_like(predicted), predicted, correct], dim=1)
    return columns.new_zeros(bins, 3).index_add(0, index, columns)


def expected_calibration_error(table: Tensor) -> Tensor:
    """Return ``sum_b n_b / n |fraction correct in b - mean predicted in b|`` as a scalar; zero without pairs.

    ``table`` [bins, 3] comes from ``calibration_table``. Source: Naeini et al. 2015; Guo et al. 2017, equation 3.
    """
    pairs, predicted, correct = table.unbind(dim=1)
    return (correct - predicted).abs().sum() / pairs.sum().clamp(min=1)
