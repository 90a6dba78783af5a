"""Warnings about runs that do not learn as they should, each with a remedy."""

import logging
import math
from collections.abc import Mapping

from plaudit.algorithms.masking import ROUNDING

logger = logging.getLogger(__name__)


def warn_if_no_better_than_chance(accuracy: float, pairs: float) -> None:
    """Warn if a reward model's held-out accuracy is not more than two standard errors above one half."""
    if accuracy - 2 * math.sqrt(0.25 / pairs) <= 0.5:
        logger.warning(
            f"the reward model is no better than chance: {accuracy:.1%} of {pairs:.0f} held-out pairs. "
            "Before optimizing against it, train it on more comparisons, for more epochs, or from a stronger model"
        )


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
    if kl < -4 * measured["kl_error"] and kl < -0.01:
        signs["negative KL"] = (
            f"the KL to the reference is {kl:.3f}, which is too far below zero to be noise: sampling and training "
            "compute different probabilities; set generation.top_p=1 and generation.top_k=0, or precision=fp32"
        )
    return signs
