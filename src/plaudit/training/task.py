"""The interface between the training loop and a stage."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import Tensor, nn

from plaudit.algorithms.interface import LossOutputs
from plaudit.batching.batches import Batch
from plaudit.batching.layouts.base import Layout
from plaudit.batching.trees import Example
from plaudit.config.schema import StageConfig
from plaudit.runs.context import StageContext
from plaudit.training.metric_sums import MetricSums
from plaudit.training.token_budget import TokenBudget

T = TypeVar("T")


class Task(Protocol[T]):
    """A stage's work for the training loop. Steps are optimizer steps, from 1; ``T`` is the type of the targets."""

    layout: Layout
    steps: int
    headline_metric: str
    budget: TokenBudget
    """Shared by all passes of the stage: if one runs out of memory, all are smaller from then on."""

    @property
    def context(self) -> StageContext[StageConfig]:
        """The stage's configuration, processes and folder."""
        ...

    @property
    def module(self) -> nn.Module:
        """All trainable weights."""
        ...

    def learning_rates(self) -> dict[str, float]:
        """Return the peak learning rates of parameters with a separate rate, by their names in ``module``.

        All other parameters use ``optimizer.learning_rate``.
        """
        ...

    def begin_step(self, step: int) -> Sequence[Example[T]]:
        """Prepare a step and return this process's shard of its examples."""
        ...

    def losses(self, batch: Batch, targets: Sequence[T]) -> Iterator[LossOutputs]:
        """Yield losses of a micro-batch with their metrics; each is differentiated before the next is computed.

        ``targets`` are those of the batch's trees, in the order of ``batch.trees``.

        A loss is a sum over the micro-batch's units divided by the number of units of the whole step, over all
        micro-batches and processes.
        """
        ...

    def end_step(self, step: int, sums: MetricSums) -> dict[str, float] | None:
        """Process a step's sums over all processes; return metrics if a line is due."""
        ...

    def line_number(self, step: int) -> int:
        """Return the step number of a metrics line: an optimizer step or an iteration."""
        ...

    def measures_at(self, step: int) -> bool:
        """Whether a held-out measurement is due after this step."""
        ...

    def measure(self, step: int) -> dict[str, float]:
        """Measure on held-out data and write samples."""
        ...

    def is_finished(self) -> bool:
        """Whether the stage ends before its last step."""
        ...

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return the tensors and plain data that the stage needs to resume exactly."""
        ...

    def restore(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restore what ``checkpoint`` returned."""
        ...

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the trained model (in the main process) and return the stage's closing numbers."""
        ...

    def close(self) -> None:
        """Release resources other than memory, such as an engine's processes. Called last, also after an error."""
        ...
