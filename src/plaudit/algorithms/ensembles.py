"""One score from several reward models, so that a response must please them all."""

from typing import Literal

from torch import Tensor

from plaudit.algorithms.masking import widened

Combination = Literal["mean", "minimum", "penalized"]


def ensemble_scores(scores: Tensor, combination: Combination, penalty: float) -> Tensor:
    """Return one score per response: [members, responses] -> [responses]::

        mean        mean_m s_m
        minimum     min_m s_m                       (worst case)
        penalized   mean_m s_m - penalty Var_m s_m  (uncertainty weighted)

    The variance is the population's, over the members. Where the members disagree, what they say is likely to be an
    error that optimisation would exploit. Source: Coste et al. 2023. ``penalty`` counts for
    ``penalized`` alone.
    """
    scores = widened(scores)
    if combination == "minimum":
        return scores.amin(0)
    mean = scores.mean(0)
    return mean if combination == "mean" else mean - penalty * scores.var(0, correction=0)
