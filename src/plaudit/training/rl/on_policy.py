"""Iterations of a single step: the policy that learns is still the one that sampled.

What it says of the rollouts is then read off the step's own forward pass. Elsewhere that takes a pass beforehand, a
sixth of an iteration of GRPO.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from plaudit.algorithms.catalogue import ADVANTAGES
from plaudit.batching.ragged import rows_from
from plaudit.config.schema import RlConfig
from plaudit.models.heads.log_probabilities import TokenStatistics
from plaudit.runs.session import Session


@dataclass(frozen=True)
class PolicyRows:
    """What the policy says of the rollouts: [responses, time] each, zero behind the end of a response."""

    log_probabilities: Tensor
    entropies: Tensor


def is_read_off_the_step(config: RlConfig) -> bool:
    """Return whether nothing needs the policy's log-probabilities before the iteration's step, which is its only one.

    A KL in the reward and an importance correction need them, values come with them, and a KL budget may end the stage
    instead of a step.
    """
    kl_in_reward = config.kl.placement == "reward" and (config.kl.coefficient > 0 or config.kl.target is not None)
    for_advantages = kl_in_reward or ADVANTAGES[config.advantages].uses_values
    needed = (
        (config.objective == "policy_gradient" and for_advantages)
        or config.importance_correction is not None
        or config.kl.budget is not None
    )
    return config.epochs * config.minibatches == 1 and not needed


class StepReadings:
    """Collects the policy's statistics of an iteration from the micro-batches of its step."""

    def __init__(self) -> None:
        self._of_response: dict[int, tuple[Tensor, Tensor]] = {}

    def keep(self, numbers: Sequence[int], lengths: Sequence[int], statistics: TokenStatistics) -> None:
        """Keep a micro-batch's statistics [N] of the responses with these numbers and lengths."""
        assert statistics.entropies is not None
        columns = statistics.log_probabilities, statistics.entropies
        parts = (column.detach().float().cpu().split(list(lengths)) for column in columns)
        self._of_response |= dict(zip(numbers, zip(*parts, strict=True), strict=True))

    def rows(self, session: Session) -> PolicyRows:
        """Return the statistics of all processes' responses, in the order of their numbers."""
        everyone: dict[int, tuple[Tensor, Tensor]] = {}
        for share in session.gather(self._of_response):
            everyone |= share
        columns = zip(*(everyone[number] for number in sorted(everyone)), strict=True)
        return PolicyRows(*map(rows_from, columns))
