"""A distribution strategy from outside the package: all processes form one data rank, as with tensor parallelism.

Each holds the whole model, computes the same rows, and contributes an equal part of the gradient.
"""

from collections.abc import Sequence
from typing import ClassVar, Literal

from torch import Tensor

from plaudit.config.schema.distribution import STRATEGIES, StrategyConfig
from plaudit.parallel.replicated import ReplicatedStrategy


class TwinConfig(StrategyConfig):
    """The section of the strategy."""

    strategy: ClassVar[str] = "twin_strategy:TwinStrategy"

    kind: Literal["twin"] = "twin"

    def data_ranks(self, processes: int) -> Sequence[int]:
        return [0] * processes


class TwinStrategy(ReplicatedStrategy):
    """Sums gradients over all processes, which is exact if each contributes the same power of two of them."""

    def backward(self, loss: Tensor) -> None:
        super().backward(loss / self.processes.count)


STRATEGIES.register("twin", TwinConfig)
