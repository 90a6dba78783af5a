"""The outputs of every loss, and the inputs of those that a configuration can replace by a function of the user.

A replaceable loss is a function of one argument, the inputs of its family, that returns ``LossOutputs``. Metrics are
sums with counts, so that means do not depend on how a step was split into micro-batches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from torch import Tensor

from plaudit.algorithms.comparisons import Pairs, ranked_pairs
from plaudit.algorithms.policy_losses import Clip


@dataclass(frozen=True)
class Mean:
    """A metric that is averaged over the units of a step: ``total`` over ``count`` units."""

    total: Tensor | float
    count: Tensor | float


@dataclass(frozen=True)
class Maximum:
    """A metric whose largest value in a step is kept."""

    value: Tensor | float


@dataclass(frozen=True)
class LossOutputs:
    """``loss`` is the scalar to differentiate; ``metrics`` are logged by name, and their gradients are ignored."""

    loss: Tensor
    metrics: Mapping[str, Mean | Maximum] = field(default_factory=dict)

    def __add__(self, other: "LossOutputs") -> "LossOutputs":
        """Return the sum of two losses with the metrics of both. Of equal names, the metric on the left remains."""
        return LossOutputs(self.loss + other.loss, {**other.metrics, **self.metrics})

    def __truediv__(self, units: float) -> "LossOutputs":
        """Return the loss divided by a step's number of units. Metrics have their own counts and stay as they are."""
        return LossOutputs(self.loss / units, self.metrics)


@dataclass(frozen=True)
class PolicyInputs:
    """The inputs of a policy loss; all tensors are [responses, time].

    ``log_probabilities`` (in nats, with gradient) under the policy in training; ``old_log_probabilities`` under the
    policy that sampled; ``reference_log_probabilities`` under the reference; ``advantages``; ``weights`` of the token
    losses, see ``aggregation``, times the importance correction, if one is configured; ``mask``, true at the tokens to
    learn. ``clip`` holds the bounds of the ratio; ``settings`` are those that the configuration gives a loss from
    outside.

    The loss is the weighted sum over the tokens, ``aggregation.weighted_sum(losses, weights, mask)``.
    """

    log_probabilities: Tensor
    old_log_probabilities: Tensor
    reference_log_probabilities: Tensor
    advantages: Tensor
    weights: Tensor
    mask: Tensor
    clip: Clip
    settings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PreferenceInputs:
    """The inputs of a loss of the stage ``dpo``; all tensors are [responses] except ``reference_kl``.

    ``log_probabilities`` (with gradient) and ``reference`` are sums over a response's tokens, in nats, under policy and
    reference (None for losses without one); ``lengths`` counts the tokens; ``prompts`` is the prompt's index.
    ``ranks``: 0 is best and equal ranks are ties; for losses that read labels, 0 is desirable and 1 is not.
    ``reference_kl`` is a scalar, see ``mismatched_kl``. ``settings`` are those of the catalogue's entry, such as beta.

    The loss is a sum over prompts.
    """

    log_probabilities: Tensor
    reference: Tensor | None
    lengths: Tensor
    prompts: Tensor
    ranks: Tensor
    settings: Mapping[str, float]
    reference_kl: Tensor | float = 0.0

    @property
    def log_ratios(self) -> Tensor:
        """``h = log pi - log pi_ref``, [responses]."""
        assert self.reference is not None
        return self.log_probabilities - self.reference

    @cached_property
    def pairs(self) -> Pairs:
        """Every pair of responses to one prompt that differ in rank."""
        return ranked_pairs(self.prompts, self.ranks)


@dataclass(frozen=True)
class RewardInputs:
    """The inputs of a reward model loss; all tensors are [responses].

    ``scores`` (with gradient); ``prompts`` is the prompt's index; ``ranks``: 0 is best and equal ranks are ties.
    ``settings`` are those of the catalogue's entry, such as margin.

    The loss is a sum over prompts.
    """

    scores: Tensor
    prompts: Tensor
    ranks: Tensor
    settings: Mapping[str, float]

    @cached_property
    def pairs(self) -> Pairs:
        """Every pair of responses to one prompt that differ in rank."""
        return ranked_pairs(self.prompts, self.ranks)
