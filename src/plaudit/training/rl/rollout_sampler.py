"""Samples responses to prompts."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import chain

from plaudit.config.schema import GenerationConfig
from plaudit.rollouts.engines.model_engine import ModelEngine
from plaudit.rollouts.samples import Sample
from plaudit.runs.session import Session
from plaudit.training.rl.prompts import Requests


class RolloutSampler:
    """Samples responses with the engine; every process answers its shard of the prompts.

    ``gathered`` returns a context in which this process holds the policy's complete weights.
    """

    def __init__(
        self,
        engine: ModelEngine,
        settings: GenerationConfig,
        session: Session,
        gathered: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self.engine, self.settings, self.session, self.gathered = engine, settings, session, gathered

    def update(self, version: int) -> None:
        """Generate with the policy's current weights; ``version`` is the number of finished training iterations."""
        with self.gathered():
            self.engine.update(version)

    def sample(self, prompts: Sequence[Requests]) -> list[list[Sample]]:
        """Return a sample per request, in a group per prompt, for this process's shard of ``prompts``."""
        return self._generate(self.session.shard(prompts), self.settings)

    def sample_greedily(self, prompts: Sequence[Requests]) -> list[list[Sample]]:
        """Return groups of one greedy response, one group per prompt of this process's shard."""
        settings = self.settings.model_copy(update={"temperature": 0.0, "top_k": 0, "top_p": 1.0})
        return self._generate([requests[:1] for requests in self.session.shard(prompts)], settings)

    def _generate(self, prompts: Sequence[Requests], settings: GenerationConfig) -> list[list[Sample]]:
        weights = nullcontext() if self.engine.computes_elsewhere else self.gathered()
        with weights, self.session.autocast():
            generated = self.engine.generate(list(chain.from_iterable(prompts)), settings)
        samples: Iterator[Sample] = iter(self.session.processes.agreed(generated))
        return [[next(samples) for _ in requests] for requests in prompts]
