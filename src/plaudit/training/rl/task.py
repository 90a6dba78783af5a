"""Reinforcement learning as a task of the training loop: maps optimizer steps to iterations and keeps their state."""

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from plaudit.algorithms.interface import LossOutputs
from plaudit.batching.batches import Batch
from plaudit.batching.trees import Example
from plaudit.config.schema import RlConfig
from plaudit.models.saving import save_model
from plaudit.runs.context import StageContext
from plaudit.training.health_checks import warn_about_rollouts
from plaudit.training.metric_sums import MetricSums
from plaudit.training.rl.experience import Experience, ResponseNumbers
from plaudit.training.rl.held_out import HeldOutPrompts
from plaudit.training.rl.iteration import Iteration
from plaudit.training.rl.objectives import StepUnits
from plaudit.training.rl.prompts import PromptSchedule
from plaudit.training.rl.roles.base import Roles

logger = logging.getLogger(__name__)


class RlTask:
    """PPO and the other RL algorithms. An optimizer step is a minibatch; a line of metrics is an iteration.

    ``experience`` belongs to the current iteration and is None between iterations; ``metrics`` describe its rollouts,
    ``sums`` its steps.
    """

    headline_metric = "reward/mean"

    def __init__(
        self,
        context: StageContext[RlConfig],
        iteration: Iteration,
        prompts: PromptSchedule,
        held_out: HeldOutPrompts,
    ) -> None:
        self.context, self.config, self.session = context, context.config, context.session
        self.iteration, self.prompts, self.held_out = iteration, prompts, held_out
        self.layout = iteration.roles.loaded.layout
        self.budget = iteration.reading.reader.budget
        self.steps_per_iteration = self.config.epochs * self.config.minibatches
        self.steps = self.config.iterations * self.steps_per_iteration
        self.experience: Experience | None = None
        self.units = StepUnits(1, 1, 1, 1, 1)
        self.metrics: dict[str, float] = {}
        self.sums = MetricSums()
        self.warned: set[str] = set()

    @property
    def roles(self) -> Roles:
        """Policy, reference and value."""
        return self.iteration.roles

    @property
    def module(self) -> nn.Module:
        """All trainable weights."""
        return self.roles.module

    def learning_rates(self) -> dict[str, float]:
        """Return the separate rate, if configured, of weights that belong only to the value function."""
        rate = self.config.value_learning_rate
        return {} if rate is None else dict.fromkeys(self.roles.value_parameters(), rate)

    # Steps -----------------------------------------------------------------------------------------------------------

    def begin_step(self, step: int) -> Sequence[Example[ResponseNumbers]]:
        """Collect experience when an iteration begins; return this process's shard of the step's minibatch."""
        iteration, step_within = self._iteration(step), (step - 1) % self.steps_per_iteration
        if step_within == 0:
            self.experience, self.metrics = self.iteration.collect(self.prompts, iteration - 1)
            self.sums = MetricSums()
        if self.is_finished():
            if self.session.is_main:
                kl, budget = self.metrics["kl"], self.config.kl.budget
                logger.warning(
                    "iteration %d: KL %.2f exceeds the budget %s: the stage ends here", iteration, kl, budget
                )
            return []
        assert self.experience is not None
        minibatches = self.iteration.minibatches(self.experience, iteration)
        examples = next(islice(minibatches, step_within, None))
        self.units = StepUnits.of(examples, self.experience)
        return self.session.processes.shard(examples)

    def losses(self, batch: Batch, targets: Sequence[ResponseNumbers]) -> Iterator[LossOutputs]:
        """Yield the policy's loss and, if the value function has separate weights, the value loss."""
        assert self.experience is not None
        return self.iteration.losses(batch, targets, self.experience, self.units)

    def end_step(self, step: int, sums: MetricSums) -> dict[str, float] | None:
        """Close the iteration after its last minibatch and return its metrics."""
        self.sums.merge(sums)
        if step % self.steps_per_iteration and not self.is_finished():
            return None
        assert self.experience is not None
        self.metrics = self.iteration.finish(self.experience, self.metrics)
        if self.session.is_main:
            warn_about_rollouts(self._iteration(step), self.metrics, self.warned)
        self.experience = None
        return self.metrics | self.sums.means()

    def is_finished(self) -> bool:
        """Whether the KL budget is exceeded."""
        budget = self.config.kl.budget
        return budget is not None and self.metrics.get("kl", 0.0) > budget

    def line_number(self, step: int) -> int:
        """Return the number of finished iterations, including one that the KL budget ended early."""
        return self._iteration(step) if self.is_finished() else step // self.steps_per_iteration

    def measures_at(self, step: int) -> bool:
        """Whether to measure: after regular iterations and at the end."""
        return self._iteration(step) % self.config.evaluate_every == 0 or step == self.steps

    def measure(self, step: int) -> dict[str, float]:
        """Answer held-out prompts; return mean scores and write samples."""
        self.iteration.sampler.update(self.line_number(step))
        return self.held_out.measure(self.line_number(step))

    def _iteration(self, step: int) -> int:
        return (step - 1) // self.steps_per_iteration + 1

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the experience (between the minibatches of an iteration), controllers and running statistics."""
        tensors = {} if self.experience is None else self.experience.to_tensors()
        return tensors, {
            **self.iteration.state_dict(),
            "metrics": self.metrics,
            "sums": self.sums.state_dict(),
            "prompts_drawn": self.prompts.drawn,
            "warned": sorted(self.warned),
        }

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore what ``checkpoint`` returned."""
        self.experience = Experience.from_tensors(tensors) if tensors else None
        self.iteration.load_state_dict(state)
        self.metrics = state["metrics"]
        self.sums.load_state_dict(state["sums"])
        self.prompts.drawn = state["prompts_drawn"]
        self.warned = set(state["warned"])

    def save(self, folder: Path) -> dict[str, float]:
        """Write the policy; a value head is needed only in training and is not saved."""
        loaded = self.roles.loaded
        with self.context.strategy.gathered_in_main(self.roles.module["policy"]):
            self.session.processes.from_main(lambda: save_model(loaded.model, loaded.tokenizer, folder))
        return {"steps": float(self.steps), "prompts": float(len(self.prompts.rows)), **self.metrics}

    def close(self) -> None:
        """Close the engine."""
        self.iteration.sampler.engine.close()
