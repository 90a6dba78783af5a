"""The token budget: positions per forward pass, halved when memory runs out."""

from plaudit.memory import HalvingSize

SMALLEST_BUDGET = 64
REMEDY = "use a smaller model, gradient_checkpointing=true, adapters (model.lora), shorter rows or precision=bf16"


class TokenBudget(HalvingSize):
    """Token positions per forward pass; ``positions`` shrinks when memory runs out."""

    def __init__(self, positions: int) -> None:
        super().__init__(positions, "the token budget", REMEDY, SMALLEST_BUDGET)

    @property
    def positions(self) -> int:
        """The current budget."""
        return self.size
