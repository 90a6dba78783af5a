"""Computes what the loss needs from the models: log-probabilities of policy and reference, and values.

The policy that sampled gives the "old" log-probabilities. Two strategies compute them:

``ReadBefore``: a pass over all rollouts before the iteration's first step. ``ReadDuringStep``: with one step per
iteration, the policy has not changed since sampling, so the step's own forward pass gives them. This saves about a
sixth of the time of a GRPO iteration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from plaudit.batching.batches import Batch
from plaudit.batching.ragged import rows_from, to_rows
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import RlConfig
from plaudit.models.heads.log_probabilities import Extras, TokenStatistics
from plaudit.runs.context import StageContext
from plaudit.training.model_reader import ModelReader
from plaudit.training.rl.experience import Experience
from plaudit.training.rl.metrics import policy_metrics
from plaudit.training.rl.roles.base import Roles


@dataclass(frozen=True)
class PolicyRows:
    """Values of the sampled tokens under the policy that sampled: [R, T] each, zero after the end of a response."""

    log_probabilities: Tensor
    entropies: Tensor


@dataclass(frozen=True)
class Readings:
    """Model outputs for the rollouts before the first step: [R, T] each, zero after the end of a response.

    ``policy`` is None if the step computes it.
    """

    reference: Tensor
    values: Tensor
    policy: PolicyRows | None


class PolicyReading(Protocol):
    """A strategy for computing the old log-probabilities."""

    reader: ModelReader
    extras: Extras
    """The statistics that the steps' forward passes must compute for the reading."""

    def read(self, trees: Sequence[PromptTree]) -> Readings:
        """Compute what is needed before the iteration's first step, for the rollouts of all processes."""
        ...

    def old_log_probabilities(
        self, experience: Experience, batch: Batch, numbers: Tensor, statistics: TokenStatistics
    ) -> Tensor:
        """Return the old log-probabilities [R, T] of a micro-batch.

        ``numbers`` [R] are the indices of its responses; ``statistics`` are those of the step's pass.
        """
        ...

    def record(self, batch: Batch, numbers: Tensor, statistics: TokenStatistics) -> None:
        """Keep what ``metrics_after`` needs of a micro-batch's statistics."""
        ...

    def metrics_before(self, readings: Readings, experience: Experience) -> dict[str, float]:
        """Return the policy's metrics if they are known before the first step."""
        ...

    def metrics_after(self, experience: Experience) -> dict[str, float]:
        """Return the policy's metrics if they are known only after the last step."""
        ...


class ReadBefore:
    """A pass over all rollouts before the iteration's first step."""

    extras: Extras = "none"

    def __init__(self, reader: ModelReader, roles: Roles, temperature: float) -> None:
        self.reader, self.roles, self.temperature = reader, roles, temperature

    def read(self, trees: Sequence[PromptTree]) -> Readings:
        """Compute reference, values and policy."""
        columns = self.reader.per_token(self._compute, 4, self.roles.modules_used(policy=True), trees)
        reference, values, log_probabilities, entropies = map(rows_from, columns)
        return Readings(reference, values, PolicyRows(log_probabilities, entropies))

    def old_log_probabilities(
        self, experience: Experience, batch: Batch, numbers: Tensor, statistics: TokenStatistics
    ) -> Tensor:
        """Return those in the experience."""
        assert experience.old_log_probabilities is not None
        return experience.old_log_probabilities[numbers, : int(batch.lengths.max())].to(batch.lengths.device)

    def record(self, batch: Batch, numbers: Tensor, statistics: TokenStatistics) -> None:
        """Keep nothing: the metrics are known before the first step."""

    def metrics_before(self, readings: Readings, experience: Experience) -> dict[str, float]:
        """Return the metrics of the policy."""
        assert readings.policy is not None
        return policy_metrics(readings.policy.log_probabilities, readings.policy.entropies, experience)

    def metrics_after(self, experience: Experience) -> dict[str, float]:
        """Return none: they are known before the first step."""
        return {}

    def _compute(self, batch: Batch) -> tuple[Tensor, ...]:
        reference = self.roles.reference(batch, self.temperature)
        output = self.roles.policy(batch, self.temperature, "measured")
        values = output.values
        if values is None:
            with self.roles.values(batch) as own:
                values = torch.zeros_like(reference) if own is None else own
        assert output.statistics.entropies is not None
        return reference, values, output.statistics.log_probabilities, output.statistics.entropies


class ReadDuringStep:
    """Only the reference is computed before the iteration's only step; there are no values."""

    extras: Extras = "measured"

    def __init__(self, reader: ModelReader, roles: Roles, temperature: float) -> None:
        self.reader, self.roles, self.temperature = reader, roles, temperature
        self._of_response: dict[int, tuple[Tensor, Tensor]] = {}

    def read(self, trees: Sequence[PromptTree]) -> Readings:
        """Compute the reference."""
        self._of_response = {}
        (column,) = self.reader.per_token(self._compute, 1, self.roles.modules_used(policy=False), trees)
        reference = rows_from(column)
        return Readings(reference, torch.zeros_like(reference), None)

    def old_log_probabilities(
        self, experience: Experience, batch: Batch, numbers: Tensor, statistics: TokenStatistics
    ) -> Tensor:
        """Return the step's own log-probabilities, detached."""
        return to_rows(statistics.log_probabilities.detach(), batch.lengths)

    def record(self, batch: Batch, numbers: Tensor, statistics: TokenStatistics) -> None:
        """Keep log-probabilities and entropies of every response."""
        assert statistics.entropies is not None
        columns = statistics.log_probabilities, statistics.entropies
        parts = (column.detach().float().cpu().split(batch.lengths.tolist()) for column in columns)
        self._of_response |= dict(zip(numbers.tolist(), zip(*parts, strict=True), strict=True))

    def metrics_before(self, readings: Readings, experience: Experience) -> dict[str, float]:
        """Return none: the step computes them."""
        return {}

    def metrics_after(self, experience: Experience) -> dict[str, float]:
        """Return the metrics of the policy."""
        policy = self.policy_rows()
        return policy_metrics(policy.log_probabilities, policy.entropies, experience)

    def policy_rows(self) -> PolicyRows:
        """Return the statistics of all processes' responses, in the order of their indices."""
        merged: dict[int, tuple[Tensor, Tensor]] = {}
        for shard in self.reader.session.processes.gather(self._of_response):
            merged |= shard
        columns = zip(*(merged[number] for number in sorted(merged)), strict=True)
        return PolicyRows(*map(rows_from, columns))

    def _compute(self, batch: Batch) -> tuple[Tensor]:
        return (self.roles.reference(batch, self.temperature),)


def build_policy_reading(context: StageContext[RlConfig], roles: Roles) -> PolicyReading:
    """Return the cheapest strategy that the configuration allows."""
    config = context.config
    reader = ModelReader(context, roles.loaded, config.pack_length)
    strategy = ReadBefore if is_needed_before(config) else ReadDuringStep
    return strategy(reader, roles, config.generation.temperature)


def is_needed_before(config: RlConfig) -> bool:
    """Return whether the policy's log-probabilities must be known before the iteration's first step.

    This is so with several steps per iteration, with a KL in the reward, with an importance correction, with values,
    which are computed in the same pass, and with a KL budget, which may end the stage before the step.
    """
    kl_in_reward = config.kl.placement == "reward" and (config.kl.coefficient > 0 or config.kl.target is not None)
    return (
        config.epochs * config.minibatches > 1
        or (config.objective == "policy_gradient" and kl_in_reward)
        or config.uses_values
        or config.corrects_importance
        or config.kl.budget is not None
    )
