"""Handles running out of memory: repeats the work in parts of half the size. Only rounding depends on the size."""

import errno
import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

from plaudit.errors import PlauditError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception reports a failed allocation, on any device."""
    import torch

    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(fault, OSError) and fault.errno == errno.ENOMEM:
        return True
    text = str(fault).lower()
    return isinstance(fault, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


class HalvingSize:
    """The amount of work done at once, which is halved when memory runs out and does not grow again.

    ``name`` is the setting's name in messages; ``remedy`` is the advice if even ``smallest`` is too much.
    """

    def __init__(self, size: int, name: str, remedy: str, smallest: int = 1) -> None:
        self.size, self.name, self.remedy, self.smallest = size, name, remedy, smallest

    def halve(self, tried: int | None = None) -> None:
        """Halve the size, or the size that was tried. Raises PlauditError if it cannot be halved."""
        import torch

        tried = self.size if tried is None else tried
        if tried // 2 < self.smallest:
            raise PlauditError(f"out of memory even when {self.name} is {tried}; {self.remedy}")
        self.size = tried // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning("out of memory: %s is now %d; this changes results only by rounding", self.name, self.size)

    def run(self, work: Callable[[int], Result], most: int | None = None) -> Result:
        """Call ``work(size)``, halving the size as long as memory runs out; never with more than ``most``."""
        while True:
            tried = self.size if most is None else min(self.size, most)
            try:
                return work(tried)
            except (RuntimeError, MemoryError) as fault:
                if not is_out_of_memory(fault):
                    raise
            # Outside the except block, because the exception keeps the tensors of the failed attempt alive.
            self.halve(tried)


def responses_at_once(size: int, whose: str, remedy: str) -> HalvingSize:
    """Return the number of responses that ``whose`` computes at once; ``remedy`` is the advice if one is too many."""
    return HalvingSize(size, f"the batch size of {whose}", remedy)


def in_batches(
    items: Sequence[Item], size: HalvingSize, work: Callable[[Sequence[Item]], Sequence[Result]]
) -> list[Result]:
    """Return the results of ``work``, one per item, called with at most ``size`` items at once."""
    results: list[Result] = []
    while len(results) < len(items):
        rest = items[len(results) :]
        results += size.run(lambda rows, rest=rest: work(rest[:rows]), most=len(rest))  # type: ignore[misc]
    return results
