"""The session of a run, which all stages share: recipe, folder, processes and precision."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from plaudit.config.schema import Recipe
from plaudit.parallel.processes import Processes, check_launch, start_processes
from plaudit.parallel.strategy import check_strategy
from plaudit.runs.directory import RunDirectory

OnMetrics = Callable[[str, Mapping[str, float]], None]
"""Called with the name of the stage and a line of its metrics, which holds ``step`` and ``seconds`` as well."""


@dataclass
class Session:
    """A run in progress, in this process."""

    recipe: Recipe
    run: RunDirectory
    processes: Processes
    on_metrics: OnMetrics | None = None
    """A user's function; the main process calls it with every line of metrics."""

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

    def shard(self, items: Sequence[Any]) -> Sequence[Any]:
        """Return this data rank's shard of ``items``, which all processes hold."""
        return self.processes.shard(items)

    def merge_shards(self, own: Sequence[Any]) -> list[Any]:
        """Undo ``shard``: gather the data ranks' results and return them in the original order."""
        return self.processes.merge_shards(own)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of the ranks."""
        return self.processes.gather(value)

    def gather_shards(self, value: Any) -> list[Any]:
        """Return every data rank's value, in their order."""
        return self.processes.of_data_ranks(self.processes.gather(value))

    def any(self, flag: bool) -> bool:
        """Return whether the flag is true in any process."""
        return self.processes.any(flag)

    def wait_for_everyone(self) -> None:
        """Return when every process has called this."""
        self.processes.wait_for_everyone()


def start_session(recipe: Recipe, run: RunDirectory, on_metrics: OnMetrics | None = None) -> Session:
    """Join the recipe's processes on its device.

    Raises PlauditError, with the correct command, if the started processes do not match the recipe.
    """
    check_launch(recipe.processes)
    check_strategy(recipe.distributed, recipe.processes)
    if recipe.threads is not None:
        torch.set_num_threads(recipe.threads)
    data_ranks = recipe.distributed.data_ranks(recipe.processes)
    return Session(recipe, run, start_processes(recipe.processes, recipe.device, data_ranks), on_metrics)
