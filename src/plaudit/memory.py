"""Out of memory: what is computed at once is halved and the work repeated. Results do not depend on the size."""

import errno
import gc
import logging
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from plaudit.errors import PlauditError

logger = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on any device."""
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    if isinstance(fault, OSError) and fault.errno == errno.ENOMEM:
        return True
    text = str(fault).lower()
    return isinstance(fault, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


class HalvingSize:
    """How much is computed at once; it shrinks when memory runs out, and stays small.

    ``name`` says what the size is of; ``remedy`` is for when ``smallest`` is still too much.
    """

    def __init__(self, size: int, name: str, remedy: str, smallest: int = 1) -> None:
        self.size, self.name, self.remedy, self.smallest = size, name, remedy, smallest

    def halve(self, tried: int | None = None) -> None:
        """Halve the size, or that which was tried. Raises PlauditError when there is nothing left to halve."""
        tried = self.size if tried is None else tried
        if tried // 2 < self.smallest:
            raise PlauditError(f"out of memory even when {self.name} is {tried}; {self.remedy}")
        self.size = tried // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        logger.warning("out of memory: %s is now %d; results do not depend on it", self.name, self.size)

    def run(self, work: Callable[[int], Result], most: int | None = None) -> Result:
        """Call ``work(size)``, again with half the size as long as memory runs out; never with more than ``most``."""
        while True:
            tried = self.size if most is None else min(self.size, most)
            try:
                return work(tried)
            except (RuntimeError, MemoryError) as fault:
                if not is_out_of_memory(fault):
                    raise
            # Out of the handler, for the fault holds the tensors of all that was under way.
            self.halve(tried)


def responses_at_once(size: int, whose: str, remedy: str) -> HalvingSize:
    """Return the number of responses computed at once by ``whose``; ``remedy`` is for when one is too much."""
    return HalvingSize(size, f"the batch size of {whose}", remedy)


def in_batches(
    items: Sequence[Item], size: HalvingSize, work: Callable[[Sequence[Item]], Sequence[Result]]
) -> list[Result]:
    """Return the results of ``work``, one for each item, called with as many items at once as ``size`` says."""
    results: list[Result] = []
    while len(results) < len(items):
        rest = items[len(results) :]
        results += size.run(lambda rows, rest=rest: work(rest[:rows]), most=len(rest))  # type: ignore[misc]
    return results
