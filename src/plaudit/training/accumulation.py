"""Sums a step's gradients over micro-batches within the token budget, which is halved when memory runs out."""

from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

import torch

from plaudit.algorithms.interface import LossOutputs
from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.trees import Example
from plaudit.memory import is_out_of_memory
from plaudit.models.collective_passes import unrepeatable_pass
from plaudit.parallel.strategy import OutOfMemoryElsewhereError, Strategy
from plaudit.training.faulty_batch import faulty_batch_error
from plaudit.training.metric_sums import MetricSums
from plaudit.training.task import Task

T = TypeVar("T")


class GradientAccumulator(Generic[T]):
    """Runs the backward passes of a task's steps through a strategy."""

    def __init__(self, task: Task[T], strategy: Strategy) -> None:
        self.task, self.strategy, self.session = task, strategy, task.context.session

    def accumulate(self, examples: Sequence[Example[T]]) -> MetricSums:
        """Sum this process's gradients over all micro-batches; return the metrics of their losses.

        Repeats the step with half the token budget if any process runs out of memory.
        """
        self.task.module.train()  # dropout and recomputed activations apply only to training passes
        while (sums := self._try_all(examples)) is None:
            self.strategy.discard()
            self.task.budget.halve()
        self.task.module.eval()
        return sums

    def micro_batches(self, examples: Sequence[Example[T]]) -> list[Callable[[], Batch]]:
        """Return the functions that build the micro-batches of these examples within the current token budget."""
        trees, pack_length = [example.tree for example in examples], self.task.context.config.pack_length
        return list(make_batches(trees, self.task.layout, self.task.budget.positions, pack_length))

    def _try_all(self, examples: Sequence[Example[T]]) -> MetricSums | None:
        """Compute all micro-batches; return None if this or another process ran out of memory."""
        sums = MetricSums()
        try:
            self._backward_all(examples, sums)
        except OutOfMemoryElsewhereError:
            return None
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            if not self.strategy.repeatable:
                raise unrepeatable_pass() from fault
            failed = True
        else:
            failed = False
        return None if self.session.processes.any(failed) else sums

    def _backward_all(self, examples: Sequence[Example[T]], sums: MetricSums) -> None:
        batches = self.micro_batches(examples)
        dummy_examples = self.strategy.dummy_examples(examples, len(batches))
        for build in batches:
            for outputs in self._losses(build, examples):
                sums.add_metrics(outputs.metrics)
                self.strategy.backward(outputs.loss)
        for example in dummy_examples:
            for build in self.micro_batches([example]):
                for outputs in self._losses(build, [example]):
                    self.strategy.backward(0.0 * outputs.loss)

    def _losses(self, build: Callable[[], Batch], examples: Sequence[Example[T]]) -> Iterator[LossOutputs]:
        """Yield the losses of a micro-batch, each with its graph until the next one is requested."""
        batch = build().to(self.session.device)
        own = [examples[index] for index in batch.tree_indices]
        losses = self.task.losses(batch, [example.target for example in own])
        while (outputs := self._next(losses)) is not None:
            if not torch.isfinite(outputs.loss):
                raise faulty_batch_error(self.task.context, own, "the loss is not finite")
            yield outputs

    def _next(self, losses: Iterator[LossOutputs]) -> LossOutputs | None:
        # The backward pass must run outside autocast; a generator that entered autocast itself would keep it on.
        with self.session.autocast():
            return next(losses, None)
