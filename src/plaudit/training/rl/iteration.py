"""Reinforcement learning from prompts to losses, in the order of the PPO paper.

``RlTask`` and the training loop of all stages call the methods of ``Iteration`` as this loop would:

    for i in range(config.iterations):
        experience, metrics = collect(prompts, i)      # 1. sample responses, 2. score them, 3. read the models,
                                                       # 4. reward every token, 5. estimate advantages
        for minibatch in minibatches(experience):      # 6. go over the experience ``epochs`` times
            for loss in losses(minibatch):             # 7. in micro-batches: the ratio, the clip, the value loss
                loss.backward()
            optimizer.step()
        finish(experience, metrics)                    # 8. adapt the KL coefficient
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from plaudit.algorithms.aggregation import importance_weights, masked_importance_weights
from plaudit.algorithms.catalogue import advantage, policy_loss
from plaudit.algorithms.estimators import AdvantageInputs, Advantages
from plaudit.algorithms.interface import LossOutputs
from plaudit.algorithms.kl import ESTIMATORS, own_token_correction
from plaudit.algorithms.kl_controllers import AdaptiveKl, FixedKl
from plaudit.algorithms.masking import explained_variance, whiten
from plaudit.algorithms.rewards import (
    RunningMoments,
    clip_scores,
    penalize_missing_end,
    soft_overlong_penalty,
    token_rewards,
)
from plaudit.batching.batches import Batch
from plaudit.batching.ragged import response_mask, rows_from
from plaudit.batching.trees import Example
from plaudit.config.schema import RlConfig
from plaudit.models.heads.log_probabilities import Extras
from plaudit.seeding import python_generator
from plaudit.training.losses import load_estimator, load_loss
from plaudit.training.rl.dynamic_sampling import refill
from plaudit.training.rl.experience import Experience, ResponseNumbers, ResponseRows, all_numbers, numbered, trees_of
from plaudit.training.rl.metrics import limited_fraction, rollout_metrics
from plaudit.training.rl.objectives import MicroBatch, StepUnits, policy_objective, value_objective
from plaudit.training.rl.prompts import PromptSchedule
from plaudit.training.rl.readings import PolicyReading, Readings
from plaudit.training.rl.roles.base import Roles
from plaudit.training.rl.rollout_sampler import RolloutSampler
from plaudit.training.rl.scoring import ScoredGroups, Scorer


class Iteration:
    """Runs iterations. Between them it keeps the KL coefficient and the running scale of rewards."""

    def __init__(
        self, config: RlConfig, roles: Roles, sampler: RolloutSampler, scorer: Scorer, reading: PolicyReading, seed: int
    ) -> None:
        self.config, self.roles, self.seed = config, roles, seed
        self.sampler, self.scorer, self.reading = sampler, scorer, reading
        self.estimator = advantage(config.advantages)
        self.estimate = load_estimator(self.estimator, "rl.advantages")
        self.policy_loss = load_loss(policy_loss(config.policy_loss), "rl.policy_loss")
        kl = config.kl
        self.controller = (
            FixedKl(kl.coefficient) if kl.target is None else AdaptiveKl(kl.coefficient, kl.target, kl.horizon)
        )
        self.reward_moments = RunningMoments()

    # From prompts to experience --------------------------------------------------------------------------------------

    def collect(self, prompts: PromptSchedule, version: int) -> tuple[Experience, dict[str, float]]:
        """Return the experience of an iteration and its metrics; ``version`` is the number of finished iterations."""
        # 1 and 2: responses and their scores
        metrics: dict[str, float] = {}
        scored = self.sample_and_score(prompts, self.config.prompts_per_iteration, version)
        if refills := self.config.dynamic_sampling:
            scored, metrics = refill(scored, lambda count: self.sample_and_score(prompts, count, version), refills)
        trees, samples = trees_of(scored.groups), scored.samples
        lengths = torch.tensor([sample.length for sample in samples])
        ended = torch.tensor([sample.ended for sample in samples])
        mask = response_mask(lengths)

        # 3: log-probabilities of the old policy and of the reference, and values
        readings = self.reading.read(trees)

        # 4 and 5: rewards, advantages and returns
        scores = self.shape_scores(scored.total, ended, lengths)
        greedy = None if scored.greedy is None else self.scale_and_clip(scored.greedy)
        found = self.estimate_advantages(scores, greedy, readings, mask)

        sampled = rows_from([torch.tensor(sample.log_probabilities) for sample in samples])
        old = None if readings.policy is None else readings.policy.log_probabilities
        rows = ResponseRows(
            sampled=sampled,
            reference=readings.reference,
            importance=self.importance(old, sampled, mask),
            advantages=found.advantages,
            returns=found.returns,
            values=readings.values,
            scores=scores,
            learned=ended | (not self.config.mask_truncated),
        )
        experience = Experience(numbered(trees), lengths, rows, old)
        metrics |= rollout_metrics(scored) | self.scorer.truncated_fractions()
        metrics |= self.reading.metrics_before(readings, experience)
        metrics["kl_coefficient"] = self.controller.coefficient
        if self.config.corrects_importance:
            metrics["importance_limited"] = limited_fraction(experience, self.config.importance_correction or 0.0)
        if self.config.uses_values:
            metrics["explained_variance"] = float(explained_variance(rows.values, rows.returns, mask))
        return experience, metrics

    def sample_and_score(self, prompts: PromptSchedule, count: int, version: int) -> ScoredGroups:
        """Return scored responses to the next ``count`` prompts. The engine holds no memory while rewards need it."""
        requests = prompts.next(count)
        self.sampler.update(version)
        samples = self.sampler.sample(requests)
        greedy = self.sampler.sample_greedily(requests) if self.config.uses_greedy else None
        self.sampler.engine.release()
        scored = self.scorer.score(samples)
        return scored if greedy is None else replace(scored, greedy=self.scorer.score(greedy).total)

    def shape_scores(self, scores: Tensor, ended: Tensor, lengths: Tensor) -> Tensor:
        """Return scores [R] after the penalties for length and missing ends, scaled and clipped."""
        config = self.config
        scores = penalize_missing_end(scores, ended, config.missing_eos_penalty)
        if config.overlong_buffer:
            limit = config.generation.max_new_tokens
            penalty = soft_overlong_penalty(lengths, limit, config.overlong_buffer)
            scores = scores - config.overlong_penalty * penalty
        if config.scale_rewards:
            self.reward_moments.update(scores)
        return self.scale_and_clip(scores)

    def scale_and_clip(self, scores: Tensor) -> Tensor:
        """Divide scores by their running standard deviation and clip them, as configured."""
        scores = self.reward_moments.scaled(scores) if self.config.scale_rewards else scores
        return scores if self.config.clip_rewards is None else clip_scores(scores, self.config.clip_rewards)

    def estimate_advantages(
        self, scores: Tensor, greedy_scores: Tensor | None, readings: Readings, mask: Tensor
    ) -> Advantages:
        """Return advantages and returns [R, T] of the rewards: the score on the last token, minus the KL on each."""
        config, kl = self.config, self.config.kl
        in_reward = self.controller.coefficient if kl.placement == "reward" else 0.0
        paid = correction = torch.zeros_like(readings.reference)
        if in_reward and readings.policy is not None:
            old = readings.policy.log_probabilities
            paid = ESTIMATORS[kl.estimator](old, readings.reference)
            correction = in_reward * own_token_correction(old, readings.reference, mask, kl.estimator)
        found = self.estimate(
            AdvantageInputs(
                rewards=token_rewards(scores, paid, mask, in_reward),
                values=readings.values,
                mask=mask,
                group_size=config.responses_per_prompt,
                gamma=config.gamma,
                gae_lambda=config.gae_lambda,
                greedy_scores=greedy_scores,
            )
        )
        advantages = found.advantages + correction / found.scale[:, None]
        # Whitening scales the reward but not a KL in the loss. That would change their ratio, and so the optimum.
        default = self.estimator.whitens and kl.placement == "reward"
        whitens = default if config.whiten_advantages is None else config.whiten_advantages
        return Advantages(whiten(advantages, mask) if whitens else advantages, found.returns, found.scale)

    def importance(self, old: Tensor | None, sampled: Tensor, mask: Tensor) -> Tensor:
        """Return the tokens' weights in the policy loss [R, T]: limited ratios of training to sampling, or ones."""
        if not self.config.corrects_importance:
            return mask.float()
        assert old is not None
        if (limits := self.config.importance_mask) is not None:
            low, high = limits
            return mask * masked_importance_weights(old, sampled, low, high)
        assert self.config.importance_correction is not None
        return mask * importance_weights(old, sampled, self.config.importance_correction)

    # From experience to losses ---------------------------------------------------------------------------------------

    def minibatches(self, experience: Experience, iteration: int) -> Iterator[list[Example[ResponseNumbers]]]:
        """Yield the prompts of each optimizer step of an iteration; every epoch visits each prompt once."""
        for epoch in range(self.config.epochs):
            order = list(range(len(experience.examples)))
            python_generator(self.seed, "minibatches", iteration, epoch).shuffle(order)
            for first in range(self.config.minibatches):
                yield [experience.examples[index] for index in order[first :: self.config.minibatches]]

    def losses(
        self, batch: Batch, targets: Sequence[ResponseNumbers], experience: Experience, units: StepUnits
    ) -> Iterator[LossOutputs]:
        """Yield the policy's loss of a micro-batch and, if the value function has separate weights, the value loss."""
        config, numbers = self.config, all_numbers(targets)
        extras: Extras = "differentiable" if config.entropy_coefficient else self.reading.extras
        output = self.roles.policy(batch, config.generation.temperature, extras)
        old = self.reading.old_log_probabilities(experience, batch, numbers, output.statistics)
        self.reading.record(batch, numbers, output.statistics)
        part = MicroBatch.of(batch, numbers, experience, units, old)
        loss = policy_objective(config, part, output, self.controller.coefficient, self.policy_loss)
        if output.values is not None:
            yield loss + value_objective(config, part, output.values)
            return
        yield loss
        with self.roles.values(batch) as values:
            if values is not None:
                yield value_objective(config, part, values)

    def finish(self, experience: Experience, metrics: dict[str, float]) -> dict[str, float]:
        """Update the KL coefficient after the last minibatch; return the metrics of the iteration."""
        metrics = metrics | self.reading.metrics_after(experience)
        self.controller.update(metrics["kl"], len(experience.lengths))
        return metrics

    # Checkpoints -----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Return the state that is kept between iterations, as plain data."""
        return {"controller": self.controller.state_dict(), "reward_moments": self.reward_moments.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.controller.load_state_dict(state["controller"])
        self.reward_moments.load_state_dict(state["reward_moments"])
