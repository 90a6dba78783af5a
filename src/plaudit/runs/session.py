"""What every stage of a run shares: the processes, the device, the precision, and the run's folder."""

import atexit
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.runs.directory import RunDirectory

SEVERAL = ("MULTI_CPU", "MULTI_GPU", "MULTI_NPU", "MULTI_XPU")
# Older ones do not know settings that the training needs, and say nothing.
OLDEST_DEEPSPEED = "0.19.6"
EXPECTED_BACKENDS = {"none": ("NO",), "ddp": SEVERAL, "zero2": SEVERAL}


@dataclass
class Session:
    """A run in progress, as this process sees it."""

    recipe: Recipe
    run: RunDirectory
    accelerator: Any

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.accelerator.device

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.accelerator.process_index

    @property
    def processes(self) -> int:
        """Number of processes."""
        return self.accelerator.num_processes

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.accelerator.is_main_process

    def autocast(self) -> AbstractContextManager[None]:
        """The context in which matrix products have the precision that was asked for."""
        return self.accelerator.autocast()

    def shard(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this process's share of items that all processes know: every n-th, starting at its rank."""
        return items[self.rank :: self.processes]

    def merge_shards(self, own: Sequence[Any]) -> list[Any]:
        """Undo ``share``: gather the processes' results and return them in the original order."""
        shares = self.gather(list(own))
        merged: list[Any] = [None] * sum(len(share) for share in shares)
        for rank, share in enumerate(shares):
            merged[rank :: self.processes] = share
        return merged

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of the ranks."""
        if self.processes == 1:
            return [value]
        values: list[Any] = [None] * self.processes
        torch.distributed.all_gather_object(values, value)
        return values

    def any(self, flag: bool) -> bool:
        """Return whether the flag is up in any process."""
        return any(self.gather(flag))

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Add up gradients over the processes; where only some have one, the others' count as zero."""
        if self.processes == 1:
            return
        everyone = self.gather([parameter.grad is not None for parameter in parameters])
        for parameter, *present in zip(parameters, *everyone, strict=True):
            if any(present):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                torch.distributed.all_reduce(parameter.grad)


def start_session(recipe: Recipe, run: RunDirectory) -> Session:
    """Start Accelerate as the recipe asks, and refuse to go on when something else has started.

    Raises PlauditError naming what was asked for, what started, and the command that starts it rightly.
    """
    _check_launch(recipe)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    if recipe.processes > 1:
        # It takes the process group that it finds for a default argument. Imported later, by an optimizer, it would
        # hold on to ours, and gloo's threads would outlive the leaving.
        import_module("torch.distributed.nn.functional")
    accelerator = _accelerator(recipe, run)
    _compare_with_what_started(recipe, accelerator)
    if recipe.processes > 1:
        # A process that ends while gloo's threads still run is aborted, and its exit code says that it failed.
        atexit.register(_leave_process_group)
    return Session(recipe, run, accelerator)


def _leave_process_group() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def _check_launch(recipe: Recipe) -> None:
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != recipe.processes:
        remedy = (
            f"start it with: torchrun --nproc_per_node {recipe.processes} -m plaudit …"
            if recipe.processes > 1
            else f"set processes={launched} distributed=ddp"
        )
        raise PlauditError(f"processes: {recipe.processes} asked for, {launched} started; {remedy}")
    if recipe.processes > 1 and recipe.distributed == "none":
        raise PlauditError(f"distributed: {recipe.processes} processes need distributed=ddp or distributed=zero2")
    if recipe.distributed == "zero2":
        _require_deepspeed()


def _require_deepspeed() -> None:
    from accelerate.utils import compare_versions

    found = version("deepspeed") if find_spec("deepspeed") else "none"
    if found == "none" or compare_versions("deepspeed", "<", OLDEST_DEEPSPEED):
        raise PlauditError(
            f"distributed: zero2 needs deepspeed {OLDEST_DEEPSPEED} or newer, found {found}; install it with: "
            "pip install -U 'plaudit[deepspeed]'"
        )


def _accelerator(recipe: Recipe, run: RunDirectory) -> Any:
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    cpu = recipe.device == "cpu" or (recipe.device == "auto" and not torch.accelerator.is_available())
    os.environ["ACCELERATE_USE_CPU"] = str(cpu).lower()
    if cpu:
        os.environ["DS_ACCELERATOR"] = "cpu"  # DeepSpeed would take a GPU where there is one
    # Accelerate keeps one state per process and silently ignores other settings later on.
    AcceleratorState._reset_state(reset_partial_state=recipe.processes == 1)
    return Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if recipe.precision == "bf16" else "no",
        project_dir=str(run.folder),
    )


def _compare_with_what_started(recipe: Recipe, accelerator: Any) -> None:
    started = accelerator.distributed_type.name
    if accelerator.num_processes != recipe.processes or started not in EXPECTED_BACKENDS[recipe.distributed]:
        raise PlauditError(
            f"asked for {recipe.processes} processes with distributed={recipe.distributed}, but Accelerate started "
            f"{accelerator.num_processes} with {started}; check the launcher and the device"
        )
    if recipe.device not in ("auto", accelerator.device.type):
        raise PlauditError(f"device: {recipe.device} asked for, {accelerator.device.type} started; choose device=auto")
