"""Samples responses to prompts."""

from collections.abc import Iterator, Sequence
from itertools import chain

from plaudit.config.schema import GenerationConfig
from plaudit.rollouts.samples import Sample
from plaudit.runs.session import Session
from plaudit.training.engine_weights import EngineWeights
from plaudit.training.rl.prompts import Requests


class RolloutSampler:
    """Samples responses with the engine; every process answers its shard of the prompts."""

    def __init__(self, weights: EngineWeights, settings: GenerationConfig, session: Session) -> None:
        self.weights, self.engine, self.settings, self.session = weights, weights.engine, settings, session

    def update(self, version: int) -> None:
        """Generate with the policy's current weights; ``version`` is the number of finished training iterations."""
        self.weights.update(version)

    def sample(self, prompts: Sequence[Requests]) -> list[list[Sample]]:
        """Return a sample per request, in a group per prompt, for this process's shard of ``prompts``."""
        return self._generate(self.session.processes.shard(prompts), self.settings)

    def sample_greedily(self, prompts: Sequence[Requests]) -> list[list[Sample]]:
        """Return groups of one greedy response, one group per prompt of this process's shard."""
        settings = self.settings.model_copy(update={"temperature": 0.0, "top_k": 0, "top_p": 1.0})
        return self._generate([requests[:1] for requests in self.session.processes.shard(prompts)], settings)

    def _generate(self, prompts: Sequence[Requests], settings: GenerationConfig) -> list[list[Sample]]:
        with self.weights.generating(), self.session.autocast():
            generated = self.engine.generate(list(chain.from_iterable(prompts)), settings)
        samples: Iterator[Sample] = iter(self.session.processes.agreed(generated))
        return [[next(samples) for _ in requests] for requests in prompts]
