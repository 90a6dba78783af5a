"""The training loop of all stages.

A step draws examples from the task, sums the gradients of their losses (``accumulation``), and takes one optimizer
step. Held-out measurements, the line of metrics and the checkpoint follow in this order, so that a run that resumes
from a checkpoint repeats nothing.
"""

import logging
import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Generic, TypeVar

import torch

from plaudit.algorithms.interface import Mean
from plaudit.batching.trees import Example
from plaudit.errors import Interrupted, PlauditError, errors_of_the_system
from plaudit.parallel.saved_files import SavedFiles
from plaudit.parallel.state import trained_parameters
from plaudit.runs.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    remove_leftovers,
    save_checkpoint,
)
from plaudit.runs.disk_space import check_free_space
from plaudit.runs.interruption import Interruption
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.runs.lines import Line, Lines
from plaudit.runs.progress import StageProgress
from plaudit.runs.trackers import StageTrackers, stage_trackers
from plaudit.seeding import derived_seed
from plaudit.training.accumulation import GradientAccumulator
from plaudit.training.faulty_batch import faulty_batch_error
from plaudit.training.metric_sums import MetricExchange
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
        self.strategy = context.strategy
        self.strategy.start(task.module, self._make_optimizer, self.config.optimizer.max_gradient_norm)
        self.gradients = GradientAccumulator(task, self.strategy)
        self.metrics = MetricExchange(self.session.processes)
        self.log: JsonLinesWriter | None = None
        self.trackers: StageTrackers
        self.progress: StageProgress
        self.headline, self.headline_line = "", 0
        self.seconds_before = 0.0
        self.started = time.monotonic()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        return build_optimizer(self._parameter_groups(), self.config.optimizer)

    def _parameter_groups(self) -> list[ParameterGroup]:
        rates, default = self.task.learning_rates(), self.config.optimizer.learning_rate
        named: dict[float, list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in trained_parameters(self.task.module).items():
            named.setdefault(rates.get(name, default), []).append((name, parameter))
        return [ParameterGroup(parameters, rate) for rate, parameters in named.items()]

    def train(self) -> Lines[dict[str, Any]]:
        """Train and save the model: yield the lines of metrics and return the stage's closing numbers.

        Raises Interrupted if a signal came or the main process's generator was closed, after a checkpoint unless no
        step has been taken yet.
        """
        done = self._resume()
        if self.session.is_main:
            self._check_free_space(done)
        with ExitStack() as stack:
            interruption = stack.enter_context(Interruption())
            self._open_records(stack, done)
            for step in range(done + 1 if done else 0, self.task.steps + 1):
                if self.task.is_finished():
                    break
                line, closed = self._record(step, self._metrics(step)), False
                if line is not None:
                    try:
                        yield line
                    except GeneratorExit:
                        closed = True
                stopped = self.session.processes.any(closed or interruption.requested)
                if step > 0 and (stopped or step % self.config.checkpoint_every == 0):
                    self.checkpoint(step)
                if stopped:
                    signal_number = self.session.processes.most(interruption.signal_number or 0)
                    if closed:
                        return {}  # to nobody: the generator is closed
                    raise Interrupted(signal_number or None, checkpoint=step > 0)
        return self._finish()

    def _metrics(self, step: int) -> dict[str, float] | None:
        """Take a step, except for step 0, and return the metrics and measurements that are due after it."""
        metrics = self.run_step(step) if step else {}
        if metrics is not None and (step == 0 or self.task.measures_at(step)):
            metrics |= self.task.measure(step)
        return metrics

    def run_step(self, step: int) -> dict[str, float] | None:
        """Draw a batch, sum its gradients and take an optimizer step; return metrics if a line is due."""
        examples = self._draw(step)
        sums = self.gradients.accumulate(examples)
        update = self._update(step, examples)
        merged = self.metrics.merged(sums)
        merged.add_metrics(update)  # once for all processes, whose number may change within an iteration
        return self.task.end_step(step, merged)

    # One step --------------------------------------------------------------------------------------------------------

    def _draw(self, step: int) -> Sequence[Example[T]]:
        torch.manual_seed(derived_seed(self.session.recipe.seed, self.stage.folder.name, step, self.session.data_rank))
        return self.task.begin_step(step)

    def _update(self, step: int, examples: Sequence[Example[T]]) -> dict[str, Mean]:
        set_learning_rate(
            self.strategy.optimizer, learning_rate_factor(step - 1, self.task.steps, self.config.optimizer)
        )
        norm = self.strategy.step()
        if not torch.isfinite(norm):
            raise faulty_batch_error(self.task.context, examples, f"the gradient is not finite at step {step}")
        rate = self.strategy.optimizer.param_groups[0]["lr"]
        return {"gradient_norm": Mean(norm, 1), "learning_rate": Mean(rate, 1)}

    # Records ---------------------------------------------------------------------------------------------------------

    def _open_records(self, stack: ExitStack, done: int) -> None:
        name = self.stage.folder.name
        if self.session.is_main:
            trackers = stage_trackers(self.session.recipe, self.stage)
            self.trackers = stack.enter_context(trackers)
            self.log = stack.enter_context(JsonLinesWriter(self.stage.metrics))
        self.progress = stack.enter_context(StageProgress(name, self.task.steps, done, self.session.is_main))

    def _record(self, step: int, metrics: dict[str, float] | None) -> Line | None:
        """Write the metrics where users read them; return them in the main process."""
        if not metrics:
            return None
        line = self.task.line_number(step)
        self._refuse_non_finite(line, metrics)
        self.progress.update(step, self._status(line, metrics))
        if self.log is None:
            return None
        name, entry = self.stage.folder.name, {"step": line, "seconds": self._seconds(), **metrics}
        self.log.append(entry)
        self.trackers.log({f"{name}/{key}": value for key, value in metrics.items()}, line)
        return name, entry

    def _refuse_non_finite(self, line: int, metrics: dict[str, float]) -> None:
        """Raise PlauditError if a loss or a held-out measurement is NaN or infinite."""
        for name, value in metrics.items():
            if name.startswith(("loss", "held_out/")) and not math.isfinite(value):
                raise PlauditError(
                    f"{self.stage.name}: {name} is {value} at step {line}: training diverged, or held-out rows are "
                    "unusual; check them, and lower optimizer.learning_rate"
                )

    def _status(self, line: int, metrics: dict[str, float]) -> str:
        """Return the loss and the headline metric for the progress; a metric of an earlier line with its step."""
        name = self.task.headline_metric
        status = [f"loss {metrics['loss']:.4g}"] if "loss" in metrics else []
        if name in metrics:
            self.headline, self.headline_line = f"{name.replace('held_out/', 'held-out ')} {metrics[name]:.4g}", line
        if self.headline:
            at = "" if line == self.headline_line else f" (step {self.headline_line})"
            status.append(self.headline + at)
        return ", ".join(status)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def checkpoint(self, step: int) -> None:
        """Write a checkpoint of all that the next step depends on."""
        tensors, task_state = self.task.checkpoint()
        state = {"task": task_state, "seconds": self._seconds(), "line": self.task.line_number(step)}
        files = self.strategy.state()
        if self.session.is_main:
            files["task"] = tensors
            self.stage.synchronize_records()  # a run that resumes from the checkpoint relies on them
        with errors_of_the_system(self.stage.checkpoints):
            save_checkpoint(
                self.stage.checkpoints,
                step,
                files,
                state,
                self.config.keep_checkpoints,
                is_main=self.session.is_main,
                wait_for_everyone=self.session.processes.wait_for_everyone,
            )

    def _check_free_space(self, done: int) -> None:
        """Raise PlauditError if the disk has no room for the checkpoints still to be written and the model."""
        trained = trained_parameters(self.task.module).values()
        # A checkpoint holds every trained parameter and its two running means; while it is written, the older ones
        # still exist.
        checkpoint = sum(parameter.numel() * (parameter.element_size() + 2 * 4) for parameter in trained)
        model = sum(parameter.numel() * parameter.element_size() for parameter in self.task.module.parameters())
        to_come = (self.task.steps - done) // self.config.checkpoint_every
        count = min(to_come, 1 if done else self.config.keep_checkpoints + 1)
        check_free_space(
            self.stage.folder, count * checkpoint + model, f"needs room for {count} checkpoints and the model"
        )

    def _resume(self) -> int:
        # Only the main process verifies checksums.
        path = self.session.processes.from_main(lambda: latest_checkpoint(self.stage.checkpoints))
        if path is None:
            if self.session.is_main:
                self.stage.create().rewind(None)
            return 0
        self.restore(checkpoint := load_checkpoint(path, files=["task"], verify=False), SavedFiles(path))
        if self.session.is_main:
            self.stage.rewind(checkpoint.state["line"])
            remove_leftovers(self.stage.checkpoints, checkpoint.step, self.config.keep_checkpoints)
            logger.info("%s: continuing after step %d of %d", self.stage.name, checkpoint.step, self.task.steps)
        return checkpoint.step

    def restore(self, checkpoint: Checkpoint, files: SavedFiles) -> None:
        """Continue from a checkpoint and its files with the weights and the optimizer's state.

        Raises ``PlauditError`` if a distributed setting wrote them that the present one cannot read.
        """
        self.strategy.load_state(files)
        self.task.restore(checkpoint.tensors["task"], checkpoint.state["task"])
        self.seconds_before = checkpoint.state["seconds"]

    def _finish(self) -> dict[str, Any]:
        with errors_of_the_system(self.stage.model):
            numbers = self.task.save(self.stage.model)
        self.strategy.close()
        numbers["seconds"] = self._seconds()
        return numbers
