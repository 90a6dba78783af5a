"""Equal numbers of passes in all processes, for strategies that communicate in every pass."""

from collections.abc import Sequence
from typing import TypeVar

from plaudit.parallel.processes import Processes

Item = TypeVar("Item")


def missing_examples(processes: Processes, examples: Sequence[Item], batches: int) -> list[Item]:
    """Return one example per micro-batch that this process has fewer than the process with the most.

    A process without examples gets one from another process.
    """
    gathered = processes.gather((batches, list(examples[:1])))
    spare: list[Item] = [example for _, first in ((batches, examples[:1]), *gathered) for example in first]
    missing: int = max(count for count, _ in gathered) - batches
    return spare[:1] * missing
