"""The protocol of reward sources, and their weighted sum.

A source returns one number per sample. ``build_reward`` creates the configured sources and combines them; the scores of
each source are kept with the total. The configuration section of each kind names the class of the source (``source``),
which has a class method ``load(config, device)``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch

from plaudit.config.schema import RewardSourceConfig
from plaudit.errors import PlauditError
from plaudit.models.context import UNBOUNDED_CONTEXT
from plaudit.plugins import check_methods, import_object, is_built_in, user_code
from plaudit.rewards.checks import checked_scores
from plaudit.rewards.function import check_functions
from plaudit.rewards.truncation import CountsTexts, TextCounts
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

LARGEST_SCORE = 1e9

LoadModules = Callable[[Callable[[torch.device], "RewardSource"]], "RewardSource"]


class RewardSource(Protocol):
    """Scores responses."""

    name: str

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        """Return the score of each sample: float32 on the CPU, shape [samples]."""
        ...


class RewardSourceClass(Protocol):
    """The class of a reward source, which its configuration section names."""

    def load(self, config: Any, device: torch.device) -> RewardSource:
        """Return the source for its configuration section."""
        ...


@runtime_checkable
class TokenReader(Protocol):
    """A reward source that reads the policy's token ids instead of its text."""

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raise PlauditError unless the source has this tokenizer's vocabulary."""
        ...


@runtime_checkable
class HasContext(Protocol):
    """A reward source whose model reads a limited number of tokens."""

    @property
    def context_length(self) -> int:
        """The longest prompt with its response that the source can score, in tokens."""
        ...


class NonFiniteScoreError(PlauditError):
    """A source returned NaN or infinity."""


@runtime_checkable
class HoldsModules(Protocol):
    """A reward source with models whose weights may be distributed over the processes.

    Its class has the property as well, and its objects can be pickled, because a strategy may load them in the main
    process alone and send them to the others without weights. Its ``score`` is called by all processes together, also
    without samples, and always runs the models' passes through ``plaudit.models.inference``.
    """

    @property
    def modules(self) -> Sequence["nn.Module"]:
        """The models."""
        ...


@dataclass(frozen=True)
class ComposedScores:
    """``total`` [samples] is the weighted sum; ``each`` holds the unweighted scores [samples] of every source."""

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

    @property
    def modules(self) -> list["nn.Module"]:
        """The models of all sources whose weights may be distributed over the processes."""
        return [module for source in self.sources if isinstance(source, HoldsModules) for module in source.modules]

    def check_tokenizer(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        """Raise PlauditError unless every source that reads token ids has this tokenizer's vocabulary.

        Call it once per policy, before the first score.
        """
        for source in self.sources:
            if isinstance(source, TokenReader):
                source.check_tokenizer(tokenizer)

    @property
    def context_length(self) -> int:
        """The longest prompt with its response that every source can score, in tokens."""
        limits = [source.context_length for source in self.sources if isinstance(source, HasContext)]
        return min(limits, default=UNBOUNDED_CONTEXT)

    def take_counts(self) -> dict[str, TextCounts]:
        """Return, for every source that may truncate texts, the counts of texts since the last call."""
        return {source.name: source.take_counts() for source in self.sources if isinstance(source, CountsTexts)}

    def score(self, samples: Sequence[Sample]) -> ComposedScores:
        """Score ``samples`` with every source.

        Raises NonFiniteScoreError if a score is not finite, and PlauditError if a source fails, does not return a
        number for each sample, or returns one beyond ``LARGEST_SCORE``.
        """
        each = {source.name: _scores_of(source, samples) for source in self.sources}
        for name, scores in each.items():
            _refuse_unusable(name, scores, samples)
        total = torch.zeros(len(samples))
        for weight, (name, scores) in zip(self.weights, each.items(), strict=True):
            total += weight * scores
            if len(samples) and (largest := (weight * scores).abs().max()) > LARGEST_SCORE:
                raise PlauditError(
                    f"reward source {name!r}: weight {weight:.6g} times its score is ±{largest:.6g}; rewards beyond "
                    f"±{LARGEST_SCORE:.0e} cannot be learned from; lower the weight"
                )
        return ComposedScores(total, each)


def build_reward(
    configs: Sequence[RewardSourceConfig],
    device: torch.device,
    made: Mapping[str, RewardSource] = MappingProxyType({}),
    load_modules: LoadModules | None = None,
) -> ComposedReward:
    """Build the sources of ``configs``, except those given by name in ``made``, and combine them.

    ``load_modules`` loads those that hold modules: see ``Strategy.load``. Raises PlauditError if a source cannot be
    built.
    """
    refuse_duplicate_names([config.name for config in configs])
    check_functions(configs)
    sources = [made.get(config.name) or _build_source(config, device, load_modules) for config in configs]
    return ComposedReward(sources, [config.weight for config in configs])


def refuse_duplicate_names(names: Sequence[str]) -> None:
    """Raise PlauditError if a name occurs twice, because metrics and tables are labeled by name."""
    for name in names:
        if names.count(name) > 1:
            raise PlauditError(f"two reward sources are named {name!r}: give each a different name")


def _build_source(config: RewardSourceConfig, device: torch.device, load_modules: LoadModules | None) -> RewardSource:
    place = f"reward source {config.name!r}"
    kind: Any = import_object(config.source, place)
    check_methods(kind, RewardSourceClass, place)

    def load(device: torch.device) -> RewardSource:
        """Load the source, and check what a source from outside returns."""
        if is_built_in(kind):
            source: RewardSource = kind.load(config, device)
            return source
        with user_code(f"{place}: {config.source}", kind.load):
            loaded: RewardSource = kind.load(config, device)
        check_methods(loaded, RewardSource, place)
        return loaded

    return load_modules(load) if load_modules is not None and hasattr(kind, "modules") else load(device)


def _scores_of(source: RewardSource, samples: Sequence[Sample]) -> torch.Tensor:
    if is_built_in(source):
        return source.score(samples)
    place = f"reward source {source.name!r}: {type(source).__name__}.score"
    with user_code(place, source.score):
        scores = source.score(samples)
    return checked_scores(scores, len(samples), place, truths=True)


def _refuse_unusable(name: str, scores: torch.Tensor, samples: Sequence[Sample]) -> None:
    largest = int(scores.abs().nan_to_num(0, 0).argmax()) if len(samples) else 0
    if len(samples) and LARGEST_SCORE < abs(scores[largest].item()) < float("inf"):
        raise PlauditError(
            f"{_score_of(name, scores, samples, largest)}: scores beyond ±{LARGEST_SCORE:.0e} cannot be learned from; "
            "scale them down in the source"
        )
    bad = (~torch.isfinite(scores)).nonzero().flatten().tolist()
    if bad:
        raise NonFiniteScoreError(f"{_score_of(name, scores, samples, bad[0])}: scores must be finite numbers")


def _score_of(name: str, scores: torch.Tensor, samples: Sequence[Sample], index: int) -> str:
    """Return in words which response got which score, with the origin of its prompt."""
    sample = samples[index]
    prompt = f" to {sample.origin.source} line {sample.origin.line}" if sample.origin else ""
    return (
        f"reward source {name!r} gave {scores[index].item():.6g} for response {index + 1} of {len(samples)}{prompt}, "
        f"{sample.response_text[:200]!r}"
    )
