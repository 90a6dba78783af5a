"""Adjustments of response scores, and the conversion of scores into token rewards.

Scores are [responses]. The caller decides the order of the adjustments; a penalty after clipping is not clipped.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from plaudit.algorithms.masking import ROUNDING, widened, zero_masked


def token_rewards(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """Return ``r_t = -coefficient * kl_t``, plus the score at the last real token: [responses, time].

    ``scores`` [responses]; ``kl`` (per token, in nats) and ``mask`` [responses, time]. Zeros at masked positions; a
    response without a real token gets no score. Source: Ziegler et al. 2019, equation 2, with the KL token by token.
    """
    real_from_here = mask.long().flip(1).cumsum(1).flip(1)
    last = mask & (real_from_here == 1)
    score_at_end = torch.where(last, widened(scores)[:, None], 0.0)
    return score_at_end - coefficient * zero_masked(kl, mask)


def penalize_missing_end(scores: Tensor, ended: Tensor, penalty: float) -> Tensor:
    """Return the scores minus ``penalty`` where the response did not end; ``ended`` is bool, [responses]."""
    return widened(scores) - penalty * ~ended


def soft_overlong_penalty(lengths: Tensor, limit: int, buffer: int) -> Tensor:
    """Return a penalty in [0, 1] for responses close to the length limit, [responses] -> [responses]::

        0                                 up to  limit - buffer tokens
        (length - (limit - buffer)) / buffer     from there to the limit

    Subtract it from the score. ``buffer`` must be positive. Source: Yu et al. 2025 (DAPO), equation 13.
    """
    return ((lengths.float() - (limit - buffer)) / buffer).clamp(0, 1)


def clip_scores(scores: Tensor, limit: float) -> Tensor:
    """Return the scores clipped to ``[-limit, limit]``, [responses]."""
    return widened(scores).clamp(-limit, limit)


class RunningMoments:
    """Mean and variance of all scores seen so far, as plain floats.

    Two sets with counts n and m, means a and b, and sums of squared deviations A and B are merged by::

        mean = a + (b - a) m / (n + m);    squared deviations = A + B + (b - a)^2 n m / (n + m)

    Source: Chan, Golub & LeVeque 1979. Every process must see the scores of all processes, or they diverge.
    """

    def __init__(self, count: float = 0.0, mean: float = 0.0, squared_deviations: float = 0.0) -> None:
        self.count = count
        self.mean = mean
        self.squared_deviations = squared_deviations

    @property
    def standard_deviation(self) -> float:
        """Root of the population variance; zero if scores differ only by rounding."""
        deviation = math.sqrt(self.squared_deviations / self.count) if self.count else 0.0
        return deviation if deviation > ROUNDING * abs(self.mean) else 0.0

    def merge(self, other: "RunningMoments") -> None:
        """Add everything that ``other`` has seen."""
        count = self.count + other.count
        if count == 0:
            return
        gap = other.mean - self.mean
        self.squared_deviations += other.squared_deviations + gap * gap * self.count * other.count / count
        self.mean += gap * other.count / count
        self.count = count

    def update(self, scores: Tensor) -> None:
        """Add ``scores`` of any shape."""
        if scores.numel():
            exact = scores.detach().to("cpu", torch.float64)
            mean = exact.mean()
            self.merge(RunningMoments(exact.numel(), mean.item(), (exact - mean).square().sum().item()))

    def scaled(self, scores: Tensor) -> Tensor:
        """Return the scores divided by the standard deviation of all scores so far; unchanged while that is zero."""
        return widened(scores) / (self.standard_deviation or 1.0)

    def state_dict(self) -> dict[str, float]:
        """Return what ``load_state_dict`` takes."""
        return {"count": self.count, "mean": self.mean, "squared_deviations": self.squared_deviations}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Restore ``state``."""
        self.count = float(state["count"])
        self.mean = float(state["mean"])
        self.squared_deviations = float(state["squared_deviations"])
