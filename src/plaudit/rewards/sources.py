"""Reward sources behind one protocol, and their weighted sum.

A source turns samples into one number each. ``build_reward`` makes the sources that a configuration names and composes
them; every source's own scores stay visible next to the total. The section of each kind names the class that does the
scoring (``source``), which has a class method ``load(config, device)``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from plaudit.config.schema import RewardSourceConfig
from plaudit.errors import PlauditError
from plaudit.plugins import import_object
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class RewardSource(Protocol):
    """Something that scores responses."""

    name: str

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the score of each sample: float32 on the CPU, shape [samples]."""
        ...


@runtime_checkable
class TokenReader(Protocol):
    """A reward source that reads the policy's token ids, and not its text."""

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raise PlauditError unless the source can read this tokenizer's ids."""
        ...


class NonFiniteScoreError(PlauditError):
    """A source gave NaN or infinity."""


@dataclass(frozen=True)
class ComposedScores:
    """``total`` [samples] is the weighted sum; ``each`` holds every source's own scores [samples], unweighted."""

    total: torch.Tensor
    each: dict[str, torch.Tensor]


class ComposedReward:
    """The weighted sum of named sources."""

    def __init__(self, sources: Sequence[RewardSource], weights: Sequence[float]) -> None:
        refuse_duplicate_names([source.name for source in sources])
        self.sources = tuple(sources)
        self.weights = tuple(weights)

    @property
    def names(self) -> list[str]:
        """Names of the sources, in the order of the configuration."""
        return [source.name for source in self.sources]

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raise PlauditError unless every source can read the token ids of a policy with this tokenizer.

        Call it once per policy, before the first score: only trained reward models read token ids.
        """
        for source in self.sources:
            if isinstance(source, TokenReader):
                source.check_tokenizer(tokenizer)

    def score(self, samples: Sequence[Sample]) -> ComposedScores:
        """Score ``samples`` by every source. Raises NonFiniteScoreError at the first score that is not finite."""
        each = {source.name: source.score(samples) for source in self.sources}
        for name, scores in each.items():
            _refuse_non_finite(name, scores, samples)
        total = torch.zeros(len(samples))
        for weight, scores in zip(self.weights, each.values(), strict=True):
            total += weight * scores
        return ComposedScores(total, each)


def build_reward(
    configs: Sequence[RewardSourceConfig], device: torch.device, made: Mapping[str, RewardSource] = MappingProxyType({})
) -> ComposedReward:
    """Make the sources of ``configs``, but for those in ``made`` (by name), and compose them.

    Raises PlauditError when one cannot be made.
    """
    refuse_duplicate_names([config.name for config in configs])
    sources = [made.get(config.name) or _build_source(config, device) for config in configs]
    return ComposedReward(sources, [config.weight for config in configs])


def refuse_duplicate_names(names: Sequence[str]) -> None:
    """Raise PlauditError when a name occurs twice: metrics and tables could not tell the two apart."""
    for name in names:
        if names.count(name) > 1:
            raise PlauditError(f"two reward sources are named {name!r}: give each a different name")


def _build_source(config: RewardSourceConfig, device: torch.device) -> RewardSource:
    kind: Any = import_object(config.source, f"reward source {config.name!r}")
    source: RewardSource = kind.load(config, device)
    return source


def _refuse_non_finite(name: str, scores: torch.Tensor, samples: Sequence[Sample]) -> None:
    bad = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if bad:
        first = bad[0]
        raise NonFiniteScoreError(
            f"reward source {name!r} gave {scores[first].item()} for response {first} of {len(samples)}, "
            f"{samples[first].response_text[:200]!r}: scores must be finite numbers"
        )
