"""Out of memory: the token budget is halved and the work repeated. Results do not depend on the budget."""

import gc
from collections.abc import Callable
from typing import TypeVar

import torch

from plaudit.errors import PlauditError

Result = TypeVar("Result")
SMALLEST_BUDGET = 64


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether an exception says that an allocation failed, on any device."""
    if isinstance(fault, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(fault).lower()
    return isinstance(fault, RuntimeError) and ("can't allocate memory" in text or "out of memory" in text)


class TokenBudget:
    """Token positions per forward pass; ``positions`` shrinks when memory runs out."""

    def __init__(self, positions: int) -> None:
        self.positions = positions

    def halve(self) -> None:
        """Halve the budget. Raises PlauditError when there is nothing left to halve."""
        if self.positions // 2 < SMALLEST_BUDGET:
            raise PlauditError(
                f"out of memory even with {self.positions} token positions per forward pass; use a smaller model, "
                "gradient_checkpointing=true, adapters (model.lora), shorter rows or precision=bf16"
            )
        self.positions //= 2
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"out of memory: the token budget is now {self.positions} positions; results do not depend on it")

    def run(self, work: Callable[[int], Result]) -> Result:
        """Call ``work(positions)``, again with half the positions as long as memory runs out."""
        while True:
            try:
                return work(self.positions)
            except (RuntimeError, MemoryError) as fault:
                if not is_out_of_memory(fault):
                    raise
            self.halve()
