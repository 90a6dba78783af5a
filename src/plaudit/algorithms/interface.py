"""What every loss is given and returns.

A loss is a function of one argument, the inputs of its family, that returns ``LossOutputs``. Its metrics are sums with
their counts, so that means do not depend on how a step was split into micro-batches.
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
    """A metric of which the largest value of a step is kept."""

    value: Tensor | float


@dataclass(frozen=True)
class LossOutputs:
    """``loss`` is a scalar that is differentiated; ``metrics`` are logged by name and carry no gradient."""

    loss: Tensor
    metrics: Mapping[str, Mean | Maximum] = field(default_factory=dict)


@dataclass(frozen=True)
class PolicyInputs:
    """What a loss of the policy is given; all tensors are [responses, time].

    ``log_probabilities`` (in nats) under the policy that learns, with gradient; ``old_log_probabilities`` under the
    policy that sampled; ``advantages``; ``weights``, which say how the losses of tokens add up; ``mask``, true at the
    tokens that are learned. ``clip`` holds the bounds of the ratio.

    The loss is the weighted sum over the tokens, ``aggregation.weighted_sum(losses, weights, mask)``.
    """

    log_probabilities: Tensor
    old_log_probabilities: Tensor
    advantages: Tensor
    weights: Tensor
    mask: Tensor
    clip: Clip


@dataclass(frozen=True)
class PreferenceInputs:
    """What a loss of the stage ``dpo`` is given: responses laid flat, all [responses] but ``reference_kl``.

    ``log_probabilities`` (with gradient) and ``reference`` are sums over a response's tokens, in nats, under policy and
    reference (None for losses without one); ``lengths`` counts the tokens; ``prompts`` tells whose response it is.
    ``ranks``: 0 is best and equal ranks are ties; where labels are read, 0 is desirable and 1 is not. ``reference_kl``
    is a scalar, see ``mismatched_kl``. ``settings`` are those of the catalogue's entry, such as beta.

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
    """What a loss of a reward model is given: responses laid flat, all [responses].

    ``scores`` (with gradient); ``prompts`` tells whose response it is; ``ranks``: 0 is best and equal ranks are ties.
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
