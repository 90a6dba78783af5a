"""Fitted curves of reward against distance from the reference, and their peaks (Gao et al. 2022).

With ``d = sqrt(KL)``, the independent ("gold") reward of a policy that is optimized against a learned one follows

    best-of-N:  R(d) = R_0 + d (alpha - beta d)
    RL:         R(d) = R_0 + d (alpha - beta log d)

alpha is the initial gain from optimization, beta the loss from exploiting the reward model's errors.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Form = Literal["rl", "best_of_n"]

_PENALTY: dict[Form, Callable[[float], float]] = {
    "rl": lambda d: d * math.log(d) if d > 0 else 0.0,
    "best_of_n": lambda d: d * d,
}


@dataclass(frozen=True)
class FittedCurve:
    """``form`` with its three coefficients; ``max_distance`` is the largest d among the fitted points."""

    form: Form
    start: float
    alpha: float
    beta: float
    max_distance: float

    def __call__(self, d: float) -> float:
        """Return R(d), d in root nats."""
        return self.start + self.alpha * d - self.beta * _PENALTY[self.form](d)

    @property
    def peak(self) -> float | None:
        """The d of the maximum; None if the curve has none (beta is not positive) or if it lies beyond the data."""
        if self.beta <= 0 or (self.alpha <= 0 and self.form == "best_of_n"):
            return None
        exponent = self.alpha / self.beta - 1
        place = self.alpha / (2 * self.beta) if self.form == "best_of_n" else math.exp(min(exponent, 700.0))
        return place if place <= self.max_distance else None


def fit_curve(points: Sequence[tuple[float, float]], form: Form) -> FittedCurve | None:
    """Fit (d, R) by least squares, all three coefficients free; None for fewer than four different d."""
    if len({d for d, _ in points}) < 4:
        return None
    design = torch.tensor([[1.0, d, -_PENALTY[form](d)] for d, _ in points], dtype=torch.float64)
    rewards = torch.tensor([reward for _, reward in points], dtype=torch.float64)
    # If the points are too close together to separate alpha and beta, the pseudo-inverse gives small coefficients.
    start, alpha, beta = (torch.linalg.pinv(design) @ rewards).tolist()
    return FittedCurve(form, start, alpha, beta, max(d for d, _ in points))
