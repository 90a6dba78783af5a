"""The token budget: positions per forward pass, halved when memory runs out."""

from plaudit.memory import HalvingSize, is_out_of_memory

__all__ = ["TokenBudget", "is_out_of_memory"]


class TokenBudget(HalvingSize):
    """Token positions per forward pass; ``positions`` shrinks when memory runs out."""

    smallest = 64

    @property
    def positions(self) -> int:
        """The budget as it is now."""
        return self.size

    def now(self) -> str:
        """Say how large the budget is from now on."""
        return f"the token budget is now {self.size} positions"

    def too_much(self, size: int) -> str:
        """Say that the smallest budget is too much."""
        return (
            f"{size} token positions per forward pass; use a smaller model, gradient_checkpointing=true, adapters "
            "(model.lora), shorter rows or precision=bf16"
        )
