"""The session of a run, which all stages share: recipe, folder, processes and precision."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from plaudit.config.schema import Recipe
from plaudit.parallel.processes import Processes, check_launch, start_processes
from plaudit.parallel.strategy import check_strategy
from plaudit.runs.directory import RunDirectory


@dataclass
class Session:
    """A run in progress, in this process."""

    recipe: Recipe
    run: RunDirectory
    processes: Processes

    @property
    def device(self) -> torch.device:
        """The device of this process."""
        return self.processes.device

    @property
    def rank(self) -> int:
        """The rank of this process."""
        return self.processes.rank

    @property
    def data_rank(self) -> int:
        """The data rank of this process, which decides what it computes: see ``Processes``."""
        return self.processes.data_rank

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.processes.is_main

    def autocast(self) -> AbstractContextManager[None]:
        """Return a context in which matrix products have the recipe's precision."""
        if self.recipe.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)


def start_session(recipe: Recipe, run: RunDirectory) -> Session:
    """Join the recipe's processes on its device.

    Raises PlauditError, with the correct command, if the started processes do not match the recipe.
    """
    check_launch(recipe.processes)
    check_strategy(recipe.distributed, recipe.processes)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    data_ranks = recipe.distributed.data_ranks(recipe.processes)
    return Session(recipe, run, start_processes(recipe.processes, recipe.device, data_ranks))
