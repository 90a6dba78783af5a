"""The base class of supervised tasks: epochs over a dataset, with a line of metrics per step."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor, nn

from plaudit.algorithms.interface import LossOutputs
from plaudit.batching.batches import Batch
from plaudit.batching.trees import Example
from plaudit.config.schema import SupervisedStageConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration.forward import recompute_activations
from plaudit.runs.context import StageContext
from plaudit.training.examples import Examples, Schedule
from plaudit.training.metric_sums import MetricSums
from plaudit.training.model_reader import ModelReader

T = TypeVar("T")


class SupervisedTask(ABC, Generic[T]):
    """Trains on the examples in epochs; a subclass defines the loss and the measurements.

    ``T`` is the type of the examples' targets: what the loss needs in addition to the tokens.
    """

    module: nn.Module
    headline_metric: str

    def __init__(
        self,
        context: StageContext[SupervisedStageConfig],
        reader: ModelReader,
        examples: Examples[T],
    ) -> None:
        if not examples.train:
            raise PlauditError(
                f"{context.name}: there are no rows to train on; check the sources with `plaudit data inspect`"
            )
        config = context.config
        schedule = Schedule.of(context, len(examples.train))
        self.order, self.steps = schedule.order, schedule.steps
        self.context, self.session = context, context.session
        self.reader, self.loaded, self.layout, self.budget = reader, reader.loaded, reader.loaded.layout, reader.budget
        self.train, self.held_out = examples.train, examples.held_out
        self.evaluate_every = config.evaluate_every
        self.units = 0
        self.last_measurement: dict[str, float] = {}
        if config.gradient_checkpointing:
            recompute_activations(self.loaded.model)

    def learning_rates(self) -> dict[str, float]:
        """Return none: all parameters have the same learning rate."""
        return {}

    def begin_step(self, step: int) -> Sequence[Example[T]]:
        """Return this process's shard of the step's batch, and count the units of the whole batch."""
        examples = [self.train[index] for index in self.order.batch(step)]
        self.units = max(sum(self.units_of(example) for example in examples), 1)
        self.prepare_step(examples)
        return self.session.processes.shard(examples)

    def prepare_step(self, examples: Sequence[Example[T]]) -> None:
        """Compute what a step's loss needs of its whole batch; by default nothing."""

    @abstractmethod
    def units_of(self, example: Example[T]) -> int:
        """Return how many units of the loss an example has."""

    @abstractmethod
    def losses(self, batch: Batch, targets: Sequence[T]) -> Iterator[LossOutputs]:
        """Yield losses of a micro-batch with their metrics; each is differentiated before the next is computed."""

    def end_step(self, step: int, sums: MetricSums) -> dict[str, float] | None:
        """Return the step's metrics."""
        return sums.means()

    def line_number(self, step: int) -> int:
        """Return the optimizer step."""
        return step

    def measures_at(self, step: int) -> bool:
        """Whether to measure: at regular steps and at the end."""
        return step % self.evaluate_every == 0 or step == self.steps

    def measure(self, step: int) -> dict[str, float]:
        """Measure on the held-out examples, if there are any."""
        self.last_measurement = self.measure_held_out() if self.held_out else {}
        return self.last_measurement

    @abstractmethod
    def measure_held_out(self) -> dict[str, float]:
        """Return metrics on the held-out examples; called only if there are any."""

    @abstractmethod
    def save(self, folder: Path) -> dict[str, Any]:
        """Write the model and return the stage's closing numbers."""

    def closing_numbers(self) -> dict[str, float]:
        """Return the number of steps and prompts, and the last held-out measurement."""
        if not self.last_measurement and self.held_out:  # the run was resumed after the last step
            self.last_measurement = self.measure_held_out()
        return {
            "steps": float(self.steps),
            "training_prompts": float(len(self.train)),
            "held_out_prompts": float(len(self.held_out)),
            **self.last_measurement,
        }

    def is_finished(self) -> bool:
        """Return False: supervised stages always run to their last step."""
        return False

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return nothing: the rest of the stage depends only on the step."""
        return {}, {}

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Do nothing: ``checkpoint`` returns nothing."""

    def close(self) -> None:
        """Nothing to release."""
