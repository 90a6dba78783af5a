"""Best-of-N: every source's expected score if one source chooses the best of N samples."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from plaudit.evaluation.statistics import best_of_n_weights


def best_of_n(scores: Mapping[str, Tensor], chooser: str, sizes: Sequence[int]) -> list[dict[str, Any]]:
    """Return for each N of ``sizes``: ``n``, ``kl_bound`` (nats) and every source's expected score ``scores``.

    ``scores`` holds [prompts, samples] for each source; the sample that ``chooser`` scores highest is chosen (the
    later one of a tie). Expectations are over all subsets of N samples of a prompt, so every N uses all samples.
    """
    order = scores[chooser].sort(dim=1, stable=True).indices
    ranked = {name: values.double().gather(1, order) for name, values in scores.items()}
    rows = []
    for n in sizes:
        weights = best_of_n_weights(order.shape[1], n)
        means = {name: (values @ weights).mean().item() for name, values in ranked.items()}
        rows.append({"n": n, "kl_bound": kl_bound(n), "scores": means})
    return rows


def kl_bound(n: int) -> float:
    """Return ``log n - (n - 1) / n``, an upper bound of the KL from best-of-n to its model (Stiennon et al. 2020)."""
    return math.log(n) - (n - 1) / n
