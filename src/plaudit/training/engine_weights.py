"""The weights that a generation engine needs, whole only where and when it needs them."""

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from torch import nn

from plaudit.parallel.strategy import Strategy
from plaudit.rollouts.engines.model_engine import ModelEngine


@dataclass(frozen=True)
class EngineWeights:
    """The weights of ``module``, the prepared policy that ``engine`` generates with."""

    engine: ModelEngine
    strategy: Strategy
    module: nn.Module

    def update(self, version: int) -> None:
        """Generate with the current weights; ``version`` is the number of finished training iterations."""
        elsewhere = self.engine.computes_elsewhere
        with self.strategy.gathered_in_main(self.module) if elsewhere else self.strategy.gathered(self.module):
            self.engine.update(version)

    def generating(self) -> AbstractContextManager[None]:
        """Return a context in which the engine can generate."""
        return nullcontext() if self.engine.computes_elsewhere else self.strategy.gathered(self.module)
