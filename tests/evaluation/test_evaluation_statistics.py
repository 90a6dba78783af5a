"""Means, rates, intervals and best-of-N weights, against numbers worked out by hand or by brute force."""

import math
from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from plaudit.evaluation.best_of_n import best_of_n, kl_bound
from plaudit.evaluation.statistics import (
    best_of_n_weights,
    bootstrap_interval,
    distinct_n,
    exact_interval,
    mean_with_error,
    proportion_interval,
    wilson_interval,
    win_rate,
)


def test_mean_and_standard_error() -> None:
    found = mean_with_error([1.0, 2.0, 3.0, 4.0])
    assert found == pytest.approx({"mean": 2.5, "standard_error": math.sqrt(5 / 3) / 2})
    with pytest.raises(ValueError, match="at least 2"):
        mean_with_error([1.0])


@pytest.mark.parametrize(
    "successes, total, low, high",
    [
        (8, 10, 0.4901625, 0.9433178),
        (0, 10, 0.0, 0.2775328),
        (10, 10, 0.7224672, 1.0),
        (50, 100, 0.4038315, 0.5961685),
        (1, 1, 0.2065493, 1.0),
    ],
)
def test_wilson_interval_against_known_values(successes: int, total: int, low: float, high: float) -> None:
    assert wilson_interval(successes, total) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 500).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_wilson_interval_properties(case: tuple[int, int]) -> None:
    successes, total = case
    low, high = wilson_interval(successes, total)
    assert 0 <= low <= successes / total <= high <= 1
    assert wilson_interval(total - successes, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)
    # The score interval holds the fractions that are at most 1.96 of their own standard errors away.
    for end in (low, high):
        if 0 < end < 1:
            assert abs(successes / total - end) / math.sqrt(end * (1 - end) / total) == pytest.approx(1.959964)


@pytest.mark.parametrize(
    "successes, total, low, high",
    [
        (4, 4, 0.025**0.25, 1.0),
        (0, 4, 0.0, 1 - 0.025**0.25),
        (8, 10, 0.4439045, 0.9747893),
        (3.5, 5, 0.1466328, 0.9949492),  # the bounds of 3 and of 4 successes
    ],
)
def test_exact_interval_against_known_values(successes: float, total: int, low: float, high: float) -> None:
    assert exact_interval(successes, total) == pytest.approx((low, high), abs=1e-6)


@given(st.integers(1, 29).flatmap(lambda total: st.tuples(st.integers(0, total), st.just(total))))
def test_few_observations_have_an_interval_that_never_covers_too_little(case: tuple[int, int]) -> None:
    """The true proportion is below the lower bound of what was seen in at most 2.5 % of samples."""
    successes, total = case
    low, high = proportion_interval(successes, total)
    assert 0 <= low <= successes / total <= high <= 1
    if low:
        at_least = sum(math.comb(total, k) * low**k * (1 - low) ** (total - k) for k in range(successes, total + 1))
        assert at_least == pytest.approx(0.025)
    assert proportion_interval(total - successes, total) == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_many_observations_have_wilsons_interval() -> None:
    assert proportion_interval(29, 29) == exact_interval(29, 29) != wilson_interval(29, 29)
    assert proportion_interval(30, 30) == wilson_interval(30, 30)


def test_win_rate_counts_ties_as_half() -> None:
    found = win_rate(torch.tensor([2.0, 1.0, 1.0, 0.0, 5.0]), torch.tensor([1.0, 1.0, 0.0, 3.0, 5.0]))
    low, high = exact_interval(3, 5)  # two wins, one loss, two ties
    assert found == {"rate": 0.6, "low": low, "high": high}


def test_clusters_that_agree_are_as_many_observations_as_there_are_clusters() -> None:
    halves = bootstrap_interval(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2.0, 4.0, 8.0]))
    assert halves == exact_interval(1.5, 3)
    assert bootstrap_interval(torch.tensor([6.0, 3.0]), torch.tensor([6.0, 3.0])) == exact_interval(2, 2)


def test_bootstrap_of_single_observations_approximates_the_normal_interval() -> None:
    parts = torch.tensor([1.0] * 600 + [0.0] * 400)
    low, high = bootstrap_interval(parts, torch.ones(1000))
    half = 1.96 * math.sqrt(0.6 * 0.4 / 1000)
    assert (low, high) == pytest.approx((0.6 - half, 0.6 + half), abs=0.006)
    assert (low, high) == bootstrap_interval(parts, torch.ones(1000))


def test_bootstrap_draws_whole_clusters() -> None:
    # 20 clusters of 50 equal observations have the information of 20 observations.
    clusters = torch.tensor([50.0, 0.0] * 10)
    low, high = bootstrap_interval(clusters, torch.full((20,), 50.0))
    assert high - low > 0.35


def test_distinct_n() -> None:
    texts = ["the day the day", "the night"]  # 6 words, 3 different; pairs: the-day, day-the, the-day, the-night
    assert distinct_n(texts, 1) == 3 / 6
    assert distinct_n(texts, 2) == 3 / 4
    assert distinct_n(["", "one"], 2) == 0.0


def brute_force(values: list[float], other: list[float], n: int) -> tuple[float, float]:
    """The mean over all draws of n of the best value, and of the other source's score of the same sample."""
    chosen = [max(draw, key=lambda index: (values[index], index)) for draw in combinations(range(len(values)), n)]
    return (
        sum(values[index] for index in chosen) / len(chosen),
        sum(other[index] for index in chosen) / len(chosen),
    )


@pytest.mark.parametrize("n", [1, 2, 3, 6])
def test_best_of_n_equals_the_enumeration_of_all_draws(n: int) -> None:
    judge = [[0.3, -1.0, 2.0, 0.3, 0.7, 0.3], [5.0, 4.0, 3.0, 2.0, 1.0, 0.0]]
    gold = [[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], [0.0, 1.0, 0.0, 1.0, 0.5, 2.0]]
    expected = [brute_force(values, other, n) for values, other in zip(judge, gold, strict=True)]
    (row,) = best_of_n({"gold": torch.tensor(gold), "judge": torch.tensor(judge)}, "judge", [n])
    assert row["n"] == n
    assert row["scores"]["judge"] == pytest.approx(sum(value for value, _ in expected) / 2)
    assert row["scores"]["gold"] == pytest.approx(sum(other for _, other in expected) / 2)


def test_best_of_n_is_unbiased() -> None:
    # The expected largest of n uniform draws is n / (n + 1), however many samples estimate it.
    scores = torch.rand(20000, 5, generator=torch.Generator().manual_seed(0))
    rows = best_of_n({"judge": scores}, "judge", [1, 2, 4])
    assert [row["scores"]["judge"] for row in rows] == pytest.approx([1 / 2, 2 / 3, 4 / 5], abs=0.004)


@given(st.integers(1, 40).flatmap(lambda samples: st.tuples(st.just(samples), st.integers(1, samples))))
def test_best_of_n_weights_are_probabilities(case: tuple[int, int]) -> None:
    weights = best_of_n_weights(*case)
    assert weights.sum().item() == pytest.approx(1.0)
    assert (weights >= 0).all()
    assert (weights.diff() >= 0).all()


def test_best_of_n_needs_n_samples() -> None:
    with pytest.raises(ValueError, match="best of 5 cannot be estimated from 4"):
        best_of_n_weights(4, 5)


def test_kl_bound() -> None:
    assert kl_bound(1) == 0.0
    assert kl_bound(2) == pytest.approx(0.1931472)
    assert kl_bound(16) == pytest.approx(1.8350887)
