"""Out of memory: what is computed at once is halved and the work repeated. Results do not depend on the size."""

import gc
from collections.abc import Callable, Sequence
from typing import TypeVar

import torch

from plaudit.errors import PlauditError

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on any device."""
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(fault).lower()
    return isinstance(fault, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


class HalvingSize:
    """How much is computed at once; it shrinks when memory runs out, and stays small."""

    smallest = 1

    def __init__(self, size: int) -> None:
        self.size = size

    def now(self) -> str:
        """Say how much is computed at once from now on."""
        raise NotImplementedError

    def too_much(self, size: int) -> str:
        """Say what is still too much, and what to do about it."""
        raise NotImplementedError

    def halve(self, tried: int | None = None) -> None:
        """Halve the size, or that which was tried. Raises PlauditError when there is nothing left to halve."""
        tried = self.size if tried is None else tried
        if tried // 2 < self.smallest:
            raise PlauditError(f"out of memory even with {self.too_much(tried)}")
        self.size = tried // 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"out of memory: {self.now()}; results do not depend on it")

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


class BatchSize(HalvingSize):
    """Responses per batch. ``whose`` says what they are batches of; ``remedy`` is for when one response is too much."""

    def __init__(self, size: int, whose: str, remedy: str) -> None:
        super().__init__(size)
        self.whose, self.remedy = whose, remedy

    def now(self) -> str:
        """Say how many responses are in a batch from now on."""
        return f"the batch size of {self.whose} is now {self.size}"

    def too_much(self, size: int) -> str:
        """Say that one response is too much."""
        return f"one response at a time ({self.whose}); {self.remedy}"


def in_batches(
    items: Sequence[Item], size: HalvingSize, work: Callable[[Sequence[Item]], Sequence[Result]]
) -> list[Result]:
    """Return the results of ``work``, one for each item, called with as many items at once as ``size`` says."""
    results: list[Result] = []
    while len(results) < len(items):
        rest = items[len(results) :]
        results += size.run(lambda rows, rest=rest: work(rest[:rows]), most=len(rest))  # type: ignore[misc]
    return results
