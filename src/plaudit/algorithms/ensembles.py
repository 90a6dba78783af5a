"""Combines the scores of several reward models, so that errors of a single model matter less."""

from typing import Literal

from torch import Tensor

from plaudit.algorithms.masking import widened

Combination = Literal["mean", "minimum", "penalized"]


def ensemble_scores(scores: Tensor, combination: Combination, penalty: float) -> Tensor:
    """Return one score per response: [members, responses] -> [responses]::

        mean        mean_m s_m
        minimum     min_m s_m                       (worst case)
        penalized   mean_m s_m - penalty Var_m s_m  (uncertainty weighted)

    The variance is the population variance over the members. Disagreement between the members marks scores that are
    likely wrong and that optimization would exploit. ``penalty`` affects only ``penalized``. Source: Coste et al. 2023.
    """
    scores = widened(scores)
    if combination == "minimum":
        return scores.amin(0)
    mean = scores.mean(0)
    return mean if combination == "mean" else mean - penalty * scores.var(0, correction=0)
