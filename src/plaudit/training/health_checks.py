"""Warnings about runs that do not learn as they should, each with a remedy."""

import logging
from collections.abc import Mapping

from plaudit.algorithms.masking import ROUNDING

logger = logging.getLogger(__name__)

SAME_POLICY = 1e-6
"""KL per token, in nats, below which sampling and training compute the same probabilities."""
USEFUL_ACCURACY = 0.6
"""If a reward model's accuracy may be as high as this, it cannot be called no better than chance."""


def warn_if_not_better_than_chance(accuracy: float, low: float, high: float, pairs: int) -> None:
    """Warn if the 95 % interval of a reward model's held-out accuracy reaches down to one half."""
    if low > 0.5:
        return
    measured = f"{accuracy:.1%} of {pairs} held-out pairs (95 % interval {low:.1%} to {high:.1%})"
    if high < 0.5:
        text = f"the reward model is worse than chance: {measured}. Check which response the data take as better"
    elif high < USEFUL_ACCURACY:
        text = (
            f"the reward model is no better than chance: {measured}. Before optimizing against it, train it on more "
            "comparisons, for more epochs, or from a stronger model"
        )
    else:
        text = (
            "the reward model's held-out pairs are too few to tell whether it is better than chance: "
            f"{measured}. Before optimizing against it, hold out more comparisons"
        )
    logger.warning(text)


def warn_about_rollouts(iteration: int, measured: Mapping[str, float], seen: set[str]) -> None:
    """Warn about constant rewards, responses that never end, and a KL far below zero.

    ``measured`` holds the iteration's metrics. Kinds of warnings in ``seen`` are not repeated; new ones are added.
    """
    for kind, text in _signs(measured).items():
        if kind not in seen:
            seen.add(kind)
            logger.warning("iteration %d: %s", iteration, text)


def _signs(measured: Mapping[str, float]) -> dict[str, str]:
    signs = {}
    if measured["reward/std"] <= ROUNDING * abs(measured["reward/mean"]):
        signs["constant"] = (
            f"every response has the same reward, {measured['reward/mean']:.6g}, so the rewards teach nothing; only "
            "the KL penalty and other terms of the loss move the policy; check the reward source"
        )
    if measured["ended_fraction"] == 0:
        signs["truncated"] = (
            "every response was cut at the limit; raise generation.max_new_tokens or set missing_eos_penalty"
        )
    kl = measured["kl"]
    # The expectation of the estimate is at least minus the KL of sampling to training, summed over a response.
    if kl < -4 * measured["kl_error"] and kl < -0.01 and measured["rollout_kl"] > SAME_POLICY:
        signs["negative KL"] = (
            f"the KL to the reference is {kl:.3f}, which is too far below zero to be noise: sampling and training "
            "compute different probabilities; set generation.top_p=1 and generation.top_k=0, or precision=fp32"
        )
    return signs
