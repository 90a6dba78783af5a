"""Means, rates and intervals: plain numbers in, plain numbers out."""

import math
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.evaluation.words import units
from plaudit.seeding import torch_generator

NORMAL_975 = 1.959963984540054
"""The 97.5 % quantile of the standard normal distribution: half width of a 95 % interval in standard errors."""

BOOTSTRAP_DRAWS = 1000

FEW = 30
"""Below this number of observations, intervals of proportions are the exact ones."""


def mean_with_error(values: Sequence[float] | Tensor) -> dict[str, float]:
    """Return ``mean`` and ``standard_error`` (sample deviation / sqrt(n)); ValueError for fewer than 2 values."""
    values = torch.as_tensor(values, dtype=torch.float64)
    if len(values) < 2:
        raise ValueError("a standard error needs at least 2 values")
    return {"mean": values.mean().item(), "standard_error": values.std().item() / math.sqrt(len(values))}


def wilson_interval(successes: float, total: int) -> tuple[float, float]:
    """Return the 95 % score interval of a binomial proportion (Wilson 1927); ``successes`` may include halves."""
    if total < 1:
        raise ValueError("a fraction needs at least 1 observation")
    share, z2 = successes / total, NORMAL_975**2
    center = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = NORMAL_975 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    # If all or none succeed, the interval ends at exactly 1 or 0; rounding would miss it.
    return (0.0 if successes == 0 else center - half), (1.0 if successes == total else center + half)


def exact_interval(successes: float, total: int) -> tuple[float, float]:
    """Return the 95 % exact interval of a binomial proportion (Clopper & Pearson 1934).

    A half among the ``successes`` counts as a failure for the lower bound and as a success for the upper one.
    """
    if total < 1:
        raise ValueError("a fraction needs at least 1 observation")
    return _exact_bound(math.floor(successes), total), 1.0 - _exact_bound(math.floor(total - successes), total)


def _exact_bound(successes: int, total: int) -> float:
    """Return the proportion at which ``successes`` or more have a probability of 2.5 %."""
    low, high = 0.0, 1.0
    for _ in range(60 if successes else 0):
        share = (low + high) / 2
        tail = sum(
            math.comb(total, number) * share**number * (1 - share) ** (total - number)
            for number in range(successes, total + 1)
        )
        low, high = (share, high) if tail < 0.025 else (low, share)
    return low


def proportion_interval(successes: float, total: int) -> tuple[float, float]:
    """Return the 95 % interval of a binomial proportion: exact for fewer than ``FEW``, Wilson's otherwise."""
    return exact_interval(successes, total) if total < FEW else wilson_interval(successes, total)


def win_rate(scores: Tensor, baseline: Tensor) -> dict[str, float]:
    """Return ``rate`` and 95 % interval ``low``, ``high`` of ``scores`` above ``baseline`` [prompts]; ties are half."""
    wins = (scores > baseline).sum().item() + (scores == baseline).sum().item() / 2
    low, high = proportion_interval(wins, len(scores))
    return {"rate": wins / len(scores), "low": low, "high": high}


def bootstrap_interval(parts: Tensor, totals: Tensor) -> tuple[float, float]:
    """Return the 95 % percentile interval (Efron 1979) of ``sum(parts) / sum(totals)``, both [clusters].

    Whole clusters are drawn, because the parts of a cluster (the pairs of a prompt) are not independent. If all
    clusters have the same fraction, drawing shows no spread: the interval is then that of a proportion of clusters.
    """
    fraction = parts.double() / totals.double()
    if (fraction == fraction[0]).all():
        return proportion_interval(fraction.sum().item(), len(parts))
    generator = torch_generator("bootstrap", len(parts))
    parts, totals = parts.double(), totals.double()
    shares = []
    for _ in range(BOOTSTRAP_DRAWS):
        drawn = torch.randint(len(parts), (len(parts),), generator=generator)
        shares.append(parts[drawn].sum() / totals[drawn].sum())
    low, high = torch.stack(shares).quantile(torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return low, high


def distinct_n(texts: Sequence[str], n: int) -> float:
    """Return the number of different n-grams of words divided by the number of all n-grams (Li et al. 2016).

    The paper divides by the number of words. Dividing by n-grams gives 1, for every n, if no n-gram is repeated.
    Returns 0 if there are none. In scripts without spaces between words, such as Chinese, each character is a word.
    """
    counts: Counter[tuple[str, ...]] = Counter()
    for text in texts:
        parts = units(text)
        counts.update(zip(*(parts[start:] for start in range(n)), strict=False))
    return len(counts) / counts.total() if counts else 0.0


def best_of_n_weights(samples: int, n: int) -> Tensor:
    """Return the probability [samples] that the sample of each rank, lowest score first, is the best of ``n``.

    The n are drawn from ``samples`` without replacement: rank i (from 1) is the best of them in C(i - 1, n - 1) of
    C(samples, n) draws. The mean of the scores under these weights is an unbiased estimate of the expected best of n
    (an order-statistics U-statistic, as pass@k in Chen et al. 2021).
    """
    if not 1 <= n <= samples:
        raise ValueError(f"the best of {n} cannot be estimated from {samples} samples")
    draws = math.comb(samples, n)
    return torch.tensor([math.comb(rank, n - 1) / draws for rank in range(samples)], dtype=torch.float64)
