"""The losses of micro-batches, computed from the policy's log-probabilities and the experience."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from plaudit.algorithms.aggregation import token_weights, weighted_sum
from plaudit.algorithms.catalogue import Aggregation, policy_loss
from plaudit.algorithms.direct_preference_losses import judged_dpo_loss
from plaudit.algorithms.interface import LossOutputs, Mean, PolicyInputs
from plaudit.algorithms.kl import kl_loss
from plaudit.algorithms.language_modeling import language_modeling_loss
from plaudit.algorithms.policy_losses import Clip
from plaudit.algorithms.value_losses import clipped_value_loss
from plaudit.batching.batches import Batch
from plaudit.batching.ragged import to_rows
from plaudit.batching.trees import Example
from plaudit.config.schema import RlConfig
from plaudit.models.heads.policy import PolicyOutput
from plaudit.training.losses import Loss
from plaudit.training.rl.experience import Experience, ResponseNumbers, ResponseRows, all_numbers


@dataclass(frozen=True)
class StepUnits:
    """The divisors of a step's sums, over all micro-batches and processes."""

    prompts: int
    responses: int
    tokens: int
    learned_responses: int
    learned_tokens: int

    @classmethod
    def of(cls, examples: Sequence[Example[ResponseNumbers]], experience: Experience) -> "StepUnits":
        """Count the units of a minibatch."""
        numbers = all_numbers(example.target for example in examples)
        chosen, learned = experience.mask[numbers], experience.learned[numbers]
        return cls(len(examples), len(numbers), int(chosen.sum()), int(learned.any(1).sum()), int(learned.sum()))


@dataclass(frozen=True)
class MicroBatch:
    """A part of a minibatch: its batch, the experience of its responses, and the units of the whole step.

    ``old`` [R, T] are the log-probabilities under the policy that sampled; ``mask`` [R, T] is true on the tokens that
    the policy chose, ``learned`` [R, T] on those that it learns from.
    """

    batch: Batch
    rows: ResponseRows
    old: Tensor
    mask: Tensor
    learned: Tensor
    units: StepUnits

    @classmethod
    def of(cls, batch: Batch, numbers: Tensor, experience: Experience, units: StepUnits, old: Tensor) -> "MicroBatch":
        """Return the micro-batch of a batch whose responses have these indices [R] in the experience."""
        time, device = int(batch.lengths.max()), batch.lengths.device
        mask, learned = (rows[numbers, :time].to(device) for rows in (experience.mask, experience.learned))
        return cls(batch, experience.rows.chosen(numbers, time, device), old, mask, learned, units)

    @property
    def fraction(self) -> float:
        """The micro-batch's fraction of the step's tokens to learn from."""
        return int(self.learned.sum()) / max(self.units.learned_tokens, 1)

    @property
    def prompts(self) -> Tensor:
        """The index of each response's prompt, [R]."""
        sizes = torch.tensor([len(tree.responses) for tree in self.batch.trees], device=self.mask.device)
        return torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes)


def policy_objective(
    config: RlConfig, part: MicroBatch, output: PolicyOutput, kl_coefficient: float, loss: Loss
) -> LossOutputs:
    """Return the policy's loss of a micro-batch, as a part of the step's loss; ``loss`` is ``rl.policy_loss``."""
    log_probabilities = to_rows(output.statistics.log_probabilities, part.batch.lengths)
    if config.objective == "online_dpo":
        return _online_dpo(part, log_probabilities, kl_coefficient)
    if config.objective == "best_of_n":
        return _best_of_n(part, log_probabilities)
    outputs = _policy_gradient(config, part, log_probabilities, loss)
    if config.kl.placement == "loss" and kl_coefficient:
        outputs += _kl_penalty(config, part, log_probabilities, kl_coefficient)
    if output.statistics.entropies is not None:
        entropies = to_rows(output.statistics.entropies, part.batch.lengths)
        bonus = config.entropy_coefficient * weighted_sum(entropies, _weights(config, part), part.learned)
        outputs += LossOutputs(-bonus)
    return outputs


def _policy_gradient(config: RlConfig, part: MicroBatch, log_probabilities: Tensor, loss: Loss) -> LossOutputs:
    rows, weights = part.rows, _weights(config, part) * part.rows.importance
    outputs = loss(
        PolicyInputs(
            log_probabilities=log_probabilities,
            old_log_probabilities=part.old,
            reference_log_probabilities=rows.reference,
            advantages=rows.advantages,
            weights=weights,
            mask=part.learned,
            clip=clip_of(config),
            settings=config.policy_loss_settings,
        )
    )
    return LossOutputs(outputs.loss, {"policy_loss": Mean(outputs.loss, part.fraction), **outputs.metrics})


def _kl_penalty(config: RlConfig, part: MicroBatch, log_probabilities: Tensor, coefficient: float) -> LossOutputs:
    """Return the KL to the reference times its coefficient; the metric is the KL."""
    kl = kl_loss(log_probabilities, part.old, part.rows.reference, part.learned, config.kl.estimator)
    penalty = weighted_sum(kl, _weights(config, part) * part.rows.importance, part.learned)
    return LossOutputs(coefficient * penalty, {"kl_loss": Mean(penalty, part.fraction)})


def _online_dpo(part: MicroBatch, log_probabilities: Tensor, beta: float) -> LossOutputs:
    """Return the loss over all pairs of a prompt's responses, with Bradley-Terry preferences from their scores."""
    log_ratios = ((log_probabilities - part.rows.reference) * part.mask).sum(1)
    loss = judged_dpo_loss(log_ratios, part.prompts, part.rows.scores, beta).loss
    return LossOutputs(loss, {"policy_loss": Mean(loss, len(part.batch.trees))}) / part.units.prompts


def _best_of_n(part: MicroBatch, log_probabilities: Tensor) -> LossOutputs:
    """Return the negative log-likelihood of each prompt's best response; the first one if several are equal."""
    scores = part.rows.scores.reshape(len(part.batch.trees), -1)
    best = torch.zeros_like(scores, dtype=torch.bool).scatter(1, scores.argmax(1, keepdim=True), True)
    loss = language_modeling_loss(log_probabilities, part.mask & best.reshape(-1, 1))
    return LossOutputs(loss, {"policy_loss": Mean(loss, len(part.batch.trees))}) / part.units.prompts


def value_objective(config: RlConfig, part: MicroBatch, values: Tensor) -> LossOutputs:
    """Return the value function's loss of a micro-batch, as a part of the step's loss; ``values`` is [N]."""
    rows, tokens = part.rows, int(part.mask.sum())
    value = clipped_value_loss(
        to_rows(values, part.batch.lengths), rows.values, rows.returns, part.mask, config.value_clip
    )
    metrics = {"value_loss": Mean(value.loss, tokens), "value_clip_fraction": Mean(value.clipped, tokens)}
    return LossOutputs(config.value_coefficient * value.loss, metrics) / part.units.tokens


def _weights(config: RlConfig, part: MicroBatch) -> Tensor:
    units = part.units
    return token_weights(part.learned, aggregation_of(config), units.learned_tokens, units.learned_responses)


def aggregation_of(config: RlConfig) -> Aggregation:
    """Return how token losses are weighted: as configured, or the policy loss's default."""
    return config.aggregation or policy_loss(config.policy_loss).aggregation


def clip_of(config: RlConfig) -> Clip:
    """Return the bounds of the ratio: as configured, or the policy loss's defaults."""
    entry = policy_loss(config.policy_loss)
    low = entry.clip_low if config.clip is None else config.clip
    default_high = entry.clip_high if config.clip is None else config.clip
    high = default_high if config.clip_high is None else config.clip_high
    return Clip(low or 0.0, high or 0.0, config.dual_clip)
