"""What every stage of a run shares: the recipe, the run's folder, the processes and the precision."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from plaudit.config.schema import Recipe
from plaudit.parallel.processes import Processes, check_launch, start_processes
from plaudit.parallel.strategy import check_strategy
from plaudit.runs.directory import RunDirectory


@dataclass
class Session:
    """A run in progress, as this process sees it."""

    recipe: Recipe
    run: RunDirectory
    processes: Processes

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        return self.processes.device

    @property
    def rank(self) -> int:
        """Number of this process."""
        return self.processes.rank

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.processes.is_main

    def autocast(self) -> AbstractContextManager[None]:
        """Return the context in which matrix products have the precision of the recipe."""
        if self.recipe.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def shard(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this process's shard of items that all processes know."""
        return self.processes.shard(items)

    def merge_shards(self, own: Sequence[Any]) -> list[Any]:
        """Undo ``shard``: gather the processes' results and return them in the original order."""
        return self.processes.merge_shards(own)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of the ranks."""
        return self.processes.gather(value)

    def any(self, flag: bool) -> bool:
        """Return whether the flag is up in any process."""
        return self.processes.any(flag)

    def wait_for_everyone(self) -> None:
        """Return when every process has called this."""
        self.processes.wait_for_everyone()


def start_session(recipe: Recipe, run: RunDirectory) -> Session:
    """Join the recipe's processes on its device.

    Raises PlauditError where something else was started than the recipe asks for, with the command that is right.
    """
    check_launch(recipe.processes)
    check_strategy(recipe.distributed, recipe.processes)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    return Session(recipe, run, start_processes(recipe.processes, recipe.device))
