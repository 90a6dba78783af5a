"""The training loop of all stages.

A step gets examples from the task, splits them into micro-batches within the token budget, sums the gradients, and
takes one optimizer step. Metrics, held-out measurements and checkpoints follow in this order, so that a run that
resumes from a checkpoint repeats nothing.
"""

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Generic, TypeVar

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.trees import Example
from plaudit.errors import Interrupted, PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.parallel.state import trained_parameters
from plaudit.parallel.strategy import OutOfMemoryElsewhereError, build_strategy
from plaudit.runs.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from plaudit.runs.interruption import Interruption
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.runs.progress import StageProgress
from plaudit.runs.trackers import StageTrackers, stage_trackers
from plaudit.seeding import derived_seed
from plaudit.training.faulty_batch import save_faulty_batch
from plaudit.training.metric_sums import MetricSums
from plaudit.training.optimization import ParameterGroup, build_optimizer, learning_rate_factor, set_learning_rate
from plaudit.training.task import Task

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Trainer(Generic[T]):
    """Trains one task to its end, starting from the newest checkpoint if there is one."""

    def __init__(self, task: Task[T]) -> None:
        context = task.context
        self.task, self.config, self.session, self.stage = task, context.config, context.session, context.directory
        task.module.eval()
        self.strategy = build_strategy(
            self.session.recipe.distributed,
            task.module,
            self._make_optimizer,
            self.config.optimizer.max_gradient_norm,
            self.session.processes,
        )
        self.log: JsonLinesWriter | None = None
        self.trackers: StageTrackers
        self.progress: StageProgress
        self.number = math.nan
        self.seconds_before = 0.0
        self.started = time.monotonic()

    def train(self) -> dict[str, float]:
        """Train, save the model, and return the stage's closing numbers."""
        done = self._resume()
        name, recipe = self.stage.folder.name, self.session.recipe
        with ExitStack() as stack:
            interruption = stack.enter_context(Interruption())
            if self.session.is_main:
                self.trackers = stack.enter_context(stage_trackers(recipe, name, self.stage.folder / "trackers"))
                self.log = stack.enter_context(JsonLinesWriter(self.stage.metrics))
            self.progress = stack.enter_context(StageProgress(name, self.task.steps, done, self.session.is_main))
            if done == 0:
                self._record(0, self._measure(0))
            for step in range(done + 1, self.task.steps + 1):
                if self.task.is_finished():
                    break
                metrics = self._step(step)
                if metrics is not None and self.task.measures_at(step):
                    metrics |= self._measure(step)
                self._record(step, metrics)
                stopped = self.session.any(interruption.requested)
                if stopped or step % self.config.checkpoint_every == 0:
                    self._checkpoint(step)
                if stopped:
                    raise Interrupted(interruption.signal_number or signal.SIGTERM)
        return self._finish()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return build_optimizer(self._parameter_groups(), self.config.optimizer)

    def _parameter_groups(self) -> list[ParameterGroup]:
        rates, default = self.task.learning_rates(), self.config.optimizer.learning_rate
        named: dict[float, list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in trained_parameters(self.task.module).items():
            named.setdefault(rates.get(name, default), []).append((name, parameter))
        return [ParameterGroup(parameters, rate) for rate, parameters in named.items()]

    # One step --------------------------------------------------------------------------------------------------------

    def _step(self, step: int) -> dict[str, float] | None:
        torch.manual_seed(derived_seed(self.session.recipe.seed, self.stage.folder.name, step, self.session.rank))
        with self.strategy.gathered():
            examples = self.task.begin_step(step)
        sums = self.accumulate(examples)
        rate = learning_rate_factor(step - 1, self.task.steps, self.config.optimizer)
        set_learning_rate(self.strategy.optimizer, rate)
        norm = self.strategy.step()
        if not torch.isfinite(norm):
            self._stop_at_fault(step, examples, "the gradient is not finite")
        sums.add("gradient_norm", norm, 1)
        sums.add("learning_rate", self.strategy.optimizer.param_groups[0]["lr"], 1)
        merged = MetricSums()
        for shard in self.session.gather(sums):
            merged.merge(shard)
        return self.task.end_step(step, merged)

    def accumulate(self, examples: Sequence[Example[T]]) -> MetricSums:
        """Sum this process's gradients over all micro-batches; return their metrics.

        Repeats the step with half the token budget if any process runs out of memory.
        """
        self.task.module.train()  # dropout and recomputed activations apply only to training passes
        while True:
            sums = MetricSums()
            if not self._runs_out_of_memory(examples, sums):
                self.task.module.eval()
                return sums
            self.strategy.discard()
            self.task.budget.halve()

    def _runs_out_of_memory(self, examples: Sequence[Example[T]], sums: MetricSums) -> bool:
        """Compute all micro-batches; return whether this or another process ran out of memory."""
        try:
            self._backward(examples, sums)
        except OutOfMemoryElsewhereError:
            return True
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            return self.session.any(True)
        return self.session.any(False)

    def _backward(self, examples: Sequence[Example[T]], sums: MetricSums) -> None:
        batches = self._batches(examples)
        dummy_examples = self.strategy.dummy_examples(examples, len(batches))
        for build in batches:
            self._learn(build, examples, sums)
        for example in dummy_examples:
            for build in self._batches([example]):
                self._learn(build, [example], MetricSums(), weight=0.0)

    def _batches(self, examples: Sequence[Example[T]]) -> list[Callable[[], Batch]]:
        trees = [example.tree for example in examples]
        return list(make_batches(trees, self.task.layout, self.task.budget.positions, self.config.pack_length))

    def _learn(
        self,
        build: Callable[[], Batch],
        examples: Sequence[Example[T]],
        sums: MetricSums,
        weight: float | None = None,
    ) -> None:
        batch = build().to(self.session.device)
        own = [examples[index] for index in batch.tree_indices]
        losses = self.task.losses(batch, [example.target for example in own], sums)
        while (loss := self._next_loss(losses)) is not None:
            if not torch.isfinite(loss):
                self._stop_at_fault(None, own, "the loss is not finite")
            self.strategy.backward(loss if weight is None else weight * loss)

    def _next_loss(self, losses: Iterator[Tensor]) -> Tensor | None:
        # The backward pass must run outside autocast; a generator that entered autocast itself would keep it on.
        with self.session.autocast():
            return next(losses, None)

    def _measure(self, step: int) -> dict[str, float]:
        with self.strategy.gathered():
            return self.task.measure(step)

    def _stop_at_fault(self, step: int | None, examples: Sequence[Example[T]], what: str) -> None:
        file = save_faulty_batch(self.stage.folder, examples, self.session.rank)
        at = "" if step is None else f" at step {step}"
        raise PlauditError(
            f"{self.stage.folder.name}: {what}{at}; the batch is in {file}. Check its longest and most unusual rows, "
            "then lower optimizer.learning_rate, set optimizer.max_gradient_norm, or use precision=fp32"
        )

    # Records ---------------------------------------------------------------------------------------------------------

    def _record(self, step: int, metrics: dict[str, float] | None) -> None:
        if not metrics:
            return
        label = self.task.headline_metric
        self.number = metrics.get(label, self.number)
        if not math.isnan(self.number):
            self.progress.update(step, label, self.number)
        elif "loss" in metrics:  # without held-out data
            self.progress.update(step, "loss", metrics["loss"])
        if self.log is not None:
            line = self.task.line_number(step)
            self.log.append({"step": line, "seconds": self._seconds(), **metrics})
            name = self.stage.folder.name
            self.trackers.log({f"{name}/{key}": value for key, value in metrics.items()}, line)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _checkpoint(self, step: int) -> None:
        tensors, task_state = self.task.checkpoint()
        state = {"task": task_state, "seconds": self._seconds(), "line": self.task.line_number(step)}
        files = self.strategy.state()
        if self.session.is_main:
            files["task"] = tensors
        save_checkpoint(
            self.stage.checkpoints,
            step,
            files,
            state,
            self.config.keep_checkpoints,
            is_main=self.session.is_main,
            wait_for_everyone=self.session.wait_for_everyone,
        )

    def _resume(self) -> int:
        # Only the main process verifies checksums.
        path = self.session.gather(latest_checkpoint(self.stage.checkpoints) if self.session.is_main else None)[0]
        if path is None:
            if self.session.is_main:
                self.stage.create().rewind(None)
            return 0
        self._restore(checkpoint := load_checkpoint(path, files=("task", *self.strategy.files), verify=False))
        if self.session.is_main:
            self.stage.rewind(checkpoint.state["line"])
            logger.info("%s: continuing after step %d of %d", self.stage.name, checkpoint.step, self.task.steps)
        return checkpoint.step

    def _restore(self, checkpoint: Checkpoint) -> None:
        if not checkpoint.tensors.keys() >= set(self.strategy.files):
            raise PlauditError(
                f"{self.stage.checkpoints}: written with another number of processes or another `distributed` "
                "setting; resume with the same ones, or delete this folder to start the stage over"
            )
        self.strategy.load_state(checkpoint.tensors)
        self.task.restore(checkpoint.tensors["task"], checkpoint.state["task"])
        self.seconds_before = checkpoint.state["seconds"]

    def _finish(self) -> dict[str, float]:
        with self.strategy.gathered():
            numbers = self.task.save(self.stage.model)
        self.strategy.close()
        numbers["seconds"] = self._seconds()
        return numbers
