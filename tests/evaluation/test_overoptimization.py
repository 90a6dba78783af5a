"""Fitted curves of reward against KL: known coefficients are recovered, and peaks are where calculus puts them."""

import math

import pytest
import torch

from plaudit.evaluation.overoptimization import Form, fit_curve

DISTANCES = [0.0, 0.3, 0.8, 1.5, 2.5, 4.0, 6.0]


@pytest.mark.parametrize("form", ["rl", "best_of_n"])
def test_known_coefficients_are_recovered(form: Form) -> None:
    penalty = {"rl": lambda d: d * math.log(d) if d else 0.0, "best_of_n": lambda d: d * d}[form]
    curve = fit_curve([(d, 0.4 + 0.9 * d - 0.25 * penalty(d)) for d in DISTANCES], form)
    assert curve is not None
    assert (curve.start, curve.alpha, curve.beta) == pytest.approx((0.4, 0.9, 0.25))
    assert curve(2.0) == pytest.approx(0.4 + 1.8 - 0.25 * penalty(2.0))


def test_peaks() -> None:
    # best-of-N: d (1 - 0.25 d) is highest at 2. RL: d (1 - 0.5 log d) at log d = 1 / 0.5 - 1, d = e = 2.718.
    best = fit_curve([(d, d - 0.25 * d * d) for d in DISTANCES], "best_of_n")
    learned = fit_curve([(d, d - 0.5 * d * math.log(d) if d else 0.0) for d in DISTANCES], "rl")
    assert best is not None
    assert learned is not None
    assert best.peak == pytest.approx(2.0)
    assert learned.peak == pytest.approx(math.e)
    steps = torch.linspace(0.1, 6, 500).tolist()
    assert max(steps, key=learned) == pytest.approx(math.e, abs=0.02)


def test_a_peak_outside_the_data_is_not_reported() -> None:
    rising = fit_curve([(d, d - 0.05 * d * d) for d in DISTANCES], "best_of_n")  # highest at 10
    straight = fit_curve([(d, d) for d in DISTANCES], "rl")
    assert rising is not None
    assert rising.peak is None
    assert straight is not None
    assert straight.peak is None


def test_too_few_points_are_not_fitted() -> None:
    assert fit_curve([(1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (3.0, 1.0)], "rl") is None
