"""An iteration's first half: prompts in, experience out.

rollouts   = engine.generate(prompts)
scores     = reward(rollouts)
old, ref, values = evaluate the trees         (old and new policy are one where there is a single step: ``on_policy``)
rewards    = score on the last token, minus KL
advantages = estimator(rewards, values)
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from plaudit.algorithms.aggregation import importance_weights
from plaudit.algorithms.catalogue import ADVANTAGES
from plaudit.algorithms.estimators import AdvantageInputs, Advantages
from plaudit.algorithms.kl import ESTIMATORS, k1, k3, own_token_correction, sequence_kl
from plaudit.algorithms.kl_controllers import FixedKl
from plaudit.algorithms.masking import explained_variance, masked_mean, whiten
from plaudit.algorithms.rewards import (
    RunningMoments,
    clip_scores,
    penalize_missing_end,
    soft_overlong_penalty,
    token_rewards,
)
from plaudit.batching.batches import Batch
from plaudit.batching.ragged import response_mask, rows_from
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import RlConfig
from plaudit.models.inference import per_token
from plaudit.rollouts.samples import Sample
from plaudit.runs.session import Session
from plaudit.training.rl.experience import Experience, ResponseRows, trees_of
from plaudit.training.rl.on_policy import PolicyRows, is_read_off_the_step
from plaudit.training.rl.roles import Roles
from plaudit.training.rl.rollout_sampler import Requests, RolloutSampler, ScoredGroups
from plaudit.training.token_budget import TokenBudget


@dataclass(frozen=True)
class TokenRows:
    """What the models say of the rollouts: [responses, time] each, zero behind the end of a response.

    ``policy`` is None where its statistics are read off the step.
    """

    reference: Tensor
    values: Tensor
    policy: PolicyRows | None


class ExperienceBuilder:
    """Turns prompts into experience; the models are run on every process's share, the equations on everything."""

    def __init__(
        self, config: RlConfig, roles: Roles, generation: RolloutSampler, session: Session, budget: TokenBudget
    ) -> None:
        self.config, self.roles, self.generation = config, roles, generation
        self.session, self.budget = session, budget
        self.estimator = ADVANTAGES[config.advantages]
        self.asks_policy = not is_read_off_the_step(config)

    def collect(
        self, draw: Callable[[int], Sequence[Requests]], controller: FixedKl, scale: RunningMoments
    ) -> tuple[Experience, dict[str, float]]:
        """Return the experience of an iteration and its metrics; ``draw(n)`` returns the next n prompts' requests."""
        scored, metrics = self.generation.collect(draw)
        samples, trees = scored.samples, trees_of(scored.groups)
        lengths = torch.tensor([len(sample.response_ids) for sample in samples])
        mask = response_mask(lengths)
        rows = self._evaluate(trees)
        ended = torch.tensor([sample.ended for sample in samples])
        scores = self._shaped(scored.total, ended, lengths, scale)
        found = self._advantages(scores, scored, rows, mask, controller.coefficient, scale)
        sampled = rows_from([_sampling_log_probabilities(sample) for sample in samples])
        old = torch.full_like(sampled, torch.nan) if rows.policy is None else rows.policy.log_probabilities
        limit = self.config.importance_correction
        experience = Experience(
            trees,
            lengths,
            ResponseRows(
                log_probabilities=old,
                sampled=sampled,
                reference=rows.reference,
                importance=mask.float() if limit is None else mask * importance_weights(old, sampled, limit),
                advantages=found.advantages,
                returns=found.returns,
                values=rows.values,
                scores=scores,
                learned=ended | (not self.config.mask_truncated),
            ),
        )
        metrics |= _rollout_metrics(samples, scored)
        if rows.policy is not None:
            metrics |= policy_metrics(rows.policy, experience)
        metrics["kl_coefficient"] = controller.coefficient
        if self.estimator.uses_values and self.config.objective == "policy_gradient":
            metrics["explained_variance"] = float(explained_variance(rows.values, found.returns, mask))
        return experience, metrics

    # Models ----------------------------------------------------------------------------------------------------------

    def _evaluate(self, trees: Sequence[PromptTree]) -> TokenRows:
        own = self.session.shard(trees)
        columns = self.budget.run(lambda positions: self._per_response(own, positions))
        sizes = [len(tree.responses) for tree in own]
        merged = []
        for column in columns:
            parts = iter(column)
            shares = self.session.merge_shards([[next(parts) for _ in range(size)] for size in sizes])
            merged.append(rows_from(list(chain.from_iterable(shares))))
        reference, values, *policy = merged
        return TokenRows(reference, values, PolicyRows(*policy) if policy else None)

    def _per_response(self, trees: Sequence[PromptTree], positions: int) -> list[list[Tensor]]:
        if not trees:
            return [[] for _ in range(4 if self.asks_policy else 2)]
        with self.session.autocast():
            return per_token(
                self._statistics,
                self.roles.asked(self.asks_policy),
                trees,
                self.roles.loaded.layout,
                self.session.device,
                positions,
                self.config.pack_length,
            )

    def _statistics(self, batch: Batch) -> tuple[Tensor, ...]:
        temperature = self.config.generation.temperature
        reference = self.roles.reference(batch, temperature)
        nothing = torch.zeros_like(reference)
        if not self.asks_policy:
            return reference, nothing
        output = self.roles.policy(batch, temperature, "measured")
        values = output.values if output.values is not None else self.roles.values(batch)
        log_probabilities, entropies = output.statistics.log_probabilities, output.statistics.entropies
        assert entropies is not None
        return reference, nothing if values is None else values, log_probabilities, entropies

    # Equations -------------------------------------------------------------------------------------------------------

    def _shaped(self, scores: Tensor, ended: Tensor, lengths: Tensor, scale: RunningMoments) -> Tensor:
        config = self.config
        scores = penalize_missing_end(scores, ended, config.missing_eos_penalty)
        if config.overlong_buffer:
            limit = config.generation.max_new_tokens
            penalty = soft_overlong_penalty(lengths, limit, config.overlong_buffer)
            scores = scores - config.overlong_penalty * penalty
        if config.scale_rewards:
            scale.update(scores)
        return self._scaled(scores, scale)

    def _scaled(self, scores: Tensor, scale: RunningMoments) -> Tensor:
        scores = scale.scaled(scores) if self.config.scale_rewards else scores
        return scores if self.config.clip_rewards is None else clip_scores(scores, self.config.clip_rewards)

    def _advantages(
        self,
        scores: Tensor,
        scored: ScoredGroups,
        rows: TokenRows,
        mask: Tensor,
        coefficient: float,
        scale: RunningMoments,
    ) -> Advantages:
        config, kl = self.config, self.config.kl
        in_reward = coefficient if kl.placement == "reward" else 0.0
        paid = correction = torch.zeros_like(rows.reference)
        if in_reward and rows.policy is not None:
            old = rows.policy.log_probabilities
            paid = ESTIMATORS[kl.estimator](old, rows.reference)
            correction = in_reward * own_token_correction(old, rows.reference, mask, kl.estimator)
        found = self.estimator.load()(
            AdvantageInputs(
                rewards=token_rewards(scores, paid, mask, in_reward),
                values=rows.values,
                mask=mask,
                group_size=config.responses_per_prompt,
                gamma=config.gamma,
                gae_lambda=config.gae_lambda,
                greedy_scores=None if scored.greedy is None else self._scaled(scored.greedy, scale),
            )
        )
        advantages = found.advantages + correction / found.scale[:, None]
        # Whitening divides the reward, but not a KL in the loss: their proportion, and so the optimum, would change.
        default = self.estimator.whitens and kl.placement == "reward"
        whitens = default if config.whiten_advantages is None else config.whiten_advantages
        return Advantages(whiten(advantages, mask) if whitens else advantages, found.returns, found.scale)


def _rollout_metrics(samples: Sequence[Sample], scored: ScoredGroups) -> dict[str, float]:
    metrics = {
        "reward/mean": scored.total.mean(),
        "reward/std": scored.total.std(unbiased=False),
        **{f"reward/{name}": scores.mean() for name, scores in scored.each.items()},
    }
    return {
        **{name: float(value) for name, value in metrics.items()},
        "response_length": sum(len(sample.response_ids) for sample in samples) / len(samples),
        "ended_fraction": sum(sample.ended for sample in samples) / len(samples),
    }


def policy_metrics(policy: PolicyRows, experience: Experience) -> dict[str, float]:
    """Return how far the policy that sampled is from the reference, how it spreads, and how well sampling agrees."""
    old, rows, mask = policy.log_probabilities, experience.rows, experience.mask
    per_sequence = sequence_kl(k1(old, rows.reference), mask)
    gap = (old - rows.sampled)[mask]
    metrics = {
        "kl": per_sequence.mean(),
        "kl_error": per_sequence.std() / len(per_sequence) ** 0.5,
        "entropy": masked_mean(policy.entropies, mask),
        "rollout_gap": gap.abs().max(),
        "rollout_ratio": gap.exp().mean(),
        "rollout_kl": k3(rows.sampled, old)[mask].mean(),
    }
    return {name: float(value) for name, value in metrics.items()}


def _sampling_log_probabilities(sample: Sample) -> Tensor:
    """Return the log-probabilities with which the tokens were really sampled, [length]."""
    return torch.tensor(sample.log_probabilities) - torch.tensor(sample.log_shares)
