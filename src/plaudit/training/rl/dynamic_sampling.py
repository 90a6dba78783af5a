"""Dynamic sampling (Yu et al. 2025, DAPO): replaces prompts whose responses all have the same score."""

from collections.abc import Callable

import torch

from plaudit.training.rl.scoring import ScoredGroups


def refill(
    drawn: ScoredGroups, draw: Callable[[int], ScoredGroups], most_refills: int
) -> tuple[ScoredGroups, dict[str, float]]:
    """Replace prompts whose scores are all equal with new prompts.

    Args:
        drawn: scored responses to the wanted number of prompts.
        draw: returns scored responses to the next n prompts.
        most_refills: maximum number of further draws.

    Returns:
        The same number of prompts as ``drawn``, and metrics. If too few prompts have different scores after the last
        refill, prompts with equal scores fill the rest.
    """
    wanted, refills = len(drawn.groups), 0
    while (missing := wanted - int(drawn.has_spread().sum())) > 0 and refills < most_refills:
        drawn = drawn.extended(draw(missing))
        refills += 1
    spread = drawn.has_spread()
    # Prompts with different scores come first. Within both parts the order is that in which prompts were drawn.
    order = torch.cat([spread.nonzero()[:, 0], (~spread).nonzero()[:, 0]])[:wanted]
    return drawn.chosen(order), {"prompts_drawn": float(len(drawn.groups)), "sampling_refills": float(refills)}
