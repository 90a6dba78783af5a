"""The one training loop: every stage goes through it.

A step asks the task for its trees, lays them out in micro-batches of the token budget, adds up gradients, and takes one
optimizer step. Then come metrics, held-out measurements and checkpoints, in this order, so that whoever continues from
a checkpoint has nothing to repeat.
"""

import math
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import StageConfig
from plaudit.errors import PlauditError
from plaudit.memory import is_out_of_memory
from plaudit.seeding import derived_seed
from plaudit.training.checkpoints import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from plaudit.training.faults import save_faulty_batch
from plaudit.training.interruption import Interrupted, Interruption
from plaudit.training.metrics_log import MetricsLog
from plaudit.training.optimization import ParameterGroup, learning_rate_factor
from plaudit.training.progress import StageProgress
from plaudit.training.run_directory import StageDirectory
from plaudit.training.session import Session
from plaudit.training.tally import Tally
from plaudit.training.task import Task
from plaudit.training.token_budget import TokenBudget
from plaudit.training.trackers import stage_trackers
from plaudit.training.updates import OutOfMemoryElsewhereError, build_update


class Trainer:
    """Runs one task to its end, from the newest checkpoint if there is one."""

    def __init__(self, task: Task, config: StageConfig, session: Session, stage: StageDirectory) -> None:
        self.task = task
        self.config = config
        self.session = session
        self.stage = stage
        task.module.eval()
        self.budget = TokenBudget(config.token_budget)
        self.parameters = {name: p for name, p in task.module.named_parameters() if p.requires_grad}
        self.update = build_update(task.module, self._parameter_groups(), config.optimizer, session)
        self.log: MetricsLog | None = None
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
            stack.enter_context(stage_trackers(self.session.accelerator, recipe, name, self.stage.folder / "trackers"))
            if self.session.is_main:
                self.log = stack.enter_context(MetricsLog(self.stage.metrics))
            self.progress = stack.enter_context(StageProgress(name, self.task.steps, done, self.session.is_main))
            if done == 0:
                self._record(0, self.task.measure(0))
            for step in range(done + 1, self.task.steps + 1):
                if self.task.is_finished():
                    break
                metrics = self._step(step)
                if metrics is not None and self.task.measures_at(step):
                    metrics |= self.task.measure(step)
                self._record(step, metrics)
                stopped = self.session.any(interruption.requested)
                if stopped or step % self.config.checkpoint_every == 0:
                    self._checkpoint(step)
                if stopped:
                    raise Interrupted(interruption.signal_number or signal.SIGTERM)
        return self._finish()

    def _parameter_groups(self) -> list[ParameterGroup]:
        factors = self.task.learning_rate_factors()
        named: dict[float, list[tuple[str, torch.nn.Parameter]]] = {}
        for name, parameter in self.parameters.items():
            factor = next((factor for prefix, factor in factors.items() if name.startswith(prefix)), 1.0)
            named.setdefault(factor, []).append((name, parameter))
        peak = self.config.optimizer.learning_rate
        return [ParameterGroup(parameters, peak * factor) for factor, parameters in named.items()]

    # One step --------------------------------------------------------------------------------------------------------

    def _step(self, step: int) -> dict[str, float] | None:
        torch.manual_seed(derived_seed(self.session.recipe.seed, self.stage.folder.name, step, self.session.rank))
        trees = self.task.begin_step(step)
        tally = self.accumulate(trees)
        norm = self.update.step(learning_rate_factor(step - 1, self.task.steps, self.config.optimizer))
        if not torch.isfinite(norm):
            self._stop_at_fault(step, trees, "the gradient is not finite")
        tally.add("gradient_norm", norm, 1)
        tally.add("learning_rate", self.update.optimizer.param_groups[0]["lr"], 1)
        everyone = Tally()
        for share in self.session.gather(tally):
            everyone.merge(share)
        return self.task.end_step(step, everyone)

    def accumulate(self, trees: Sequence[PromptTree]) -> Tally:
        """Add up this process's gradients of all micro-batches, in ``parameters``; return what was measured on the way.

        It is repeated with half the budget when any process runs out of memory.
        """
        self.task.module.train()  # dropout and recomputed activations are for learning, not for measuring
        while True:
            tally = Tally()
            if not self._runs_out_of_memory(trees, tally):
                self.task.module.eval()
                return tally
            self.update.discard()
            self.budget.halve()

    def _runs_out_of_memory(self, trees: Sequence[PromptTree], tally: Tally) -> bool:
        """Go over all micro-batches; return whether memory ran out on the way, in this or another process."""
        try:
            self._backward(trees, tally)
        except OutOfMemoryElsewhereError:
            return True
        except (RuntimeError, MemoryError) as fault:
            if not is_out_of_memory(fault):
                raise
            return self.session.any(True)
        return self.session.any(False)

    def _backward(self, trees: Sequence[PromptTree], tally: Tally) -> None:
        batches = self._batches(trees)
        stand_ins = self.update.stand_ins(trees, len(batches))
        for build in batches:
            self._learn(build, tally)
        for tree in stand_ins:
            for build in self._batches([tree]):
                self._learn(build, Tally(), weight=0.0)

    def _batches(self, trees: Sequence[PromptTree]) -> list[Callable[[], Batch]]:
        return list(make_batches(trees, self.task.layout, self.budget.positions, self.config.pack_length))

    def _learn(self, build: Callable[[], Batch], tally: Tally, weight: float | None = None) -> None:
        batch = build().to(self.session.device)
        with self.session.autocast():
            losses = self.task.losses(batch, tally)
        while (loss := self._next_loss(losses)) is not None:
            if not torch.isfinite(loss):
                self._stop_at_fault(None, batch.trees, "the loss is not finite")
            self.update.backward(loss if weight is None else weight * loss)

    def _next_loss(self, losses: Any) -> Tensor | None:
        with self.session.autocast():
            return next(losses, None)

    def _stop_at_fault(self, step: int | None, trees: Sequence[PromptTree], what: str) -> None:
        place = save_faulty_batch(self.stage.folder, trees, self.session.rank)
        at = "" if step is None else f" at step {step}"
        raise PlauditError(
            f"{self.stage.folder.name}: {what}{at}; the batch is in {place}. Look at its longest and strangest rows, "
            "then lower optimizer.learning_rate, set optimizer.max_gradient_norm, or use precision=fp32"
        )

    # Records ---------------------------------------------------------------------------------------------------------

    def _record(self, step: int, metrics: dict[str, float] | None) -> None:
        if not metrics:
            return
        label = self.task.number_that_matters
        self.number = metrics.get(label, self.number)
        if not math.isnan(self.number):
            self.progress.update(step, label, self.number)
        elif "loss" in metrics:  # nothing is held out
            self.progress.update(step, "loss", metrics["loss"])
        if self.log is not None:
            line = self.task.line_number(step)
            self.log.append({"step": line, "seconds": self._seconds(), **metrics})
            name = self.stage.folder.name
            self.session.accelerator.log({f"{name}/{key}": value for key, value in metrics.items()}, step=line)

    def _seconds(self) -> float:
        return self.seconds_before + time.monotonic() - self.started

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def _checkpoint(self, step: int) -> None:
        tensors, task_state = self.task.checkpoint()
        state = {"task": task_state, "seconds": self._seconds(), "line": self.task.line_number(step)}
        files = self.update.files()
        if self.session.is_main:
            files |= {"model": {name: p.detach() for name, p in self.parameters.items()}, "task": tensors}
        save_checkpoint(
            self.stage.checkpoints,
            step,
            files,
            state,
            self.config.keep_checkpoints,
            is_main=self.session.is_main,
            wait_for_everyone=self.session.accelerator.wait_for_everyone,
        )

    def _resume(self) -> int:
        path = latest_checkpoint(self.stage.checkpoints)
        if path is None:
            if self.session.is_main:
                self.stage.create().rewind(None)
            return 0
        self._restore(checkpoint := load_checkpoint(path, files=("model", "task", self.update.file)))
        if self.session.is_main:
            self.stage.rewind(checkpoint.state["line"])
            print(f"{self.stage.folder.name}: continuing after step {checkpoint.step} of {self.task.steps}")
        return checkpoint.step

    def _restore(self, checkpoint: Checkpoint) -> None:
        if self.update.file not in checkpoint.tensors:
            raise PlauditError(
                f"{self.stage.checkpoints}: written by another number of processes or another `distributed`, with "
                "which alone it can be continued; start as many as then, or delete this folder to begin anew"
            )
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(checkpoint.tensors["model"][name])
        self.update.restore(checkpoint.tensors[self.update.file])
        self.task.restore(checkpoint.tensors["task"], checkpoint.state["task"])
        self.seconds_before = checkpoint.state["seconds"]

    def _finish(self) -> dict[str, float]:
        self.update.close()
        numbers = self.task.save(self.stage.model)
        numbers["seconds"] = self._seconds()
        return numbers
