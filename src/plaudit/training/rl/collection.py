"""An iteration's first half: prompts in, experience out.

rollouts   = engine.generate(prompts)
scores     = reward(rollouts)
old, ref, values = evaluate the trees
rewards    = score on the last token, minus KL
advantages = estimator(rewards, values)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from plaudit.algorithms.advantages import gae, grpo, rloo, spread_over_tokens
from plaudit.algorithms.kl import k1, sequence_kl
from plaudit.algorithms.kl_controllers import FixedKl
from plaudit.algorithms.masking import explained_variance, masked_mean, whiten
from plaudit.algorithms.rewards import RunningMoments, clip_scores, penalize_missing_end, token_rewards
from plaudit.batching.batches import Batch
from plaudit.batching.ragged import response_mask, rows_from
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import RlConfig
from plaudit.errors import PlauditError
from plaudit.models.inference import per_token
from plaudit.models.roles import Roles
from plaudit.rewards.sources import ComposedReward, ComposedScores, NonFiniteScoreError
from plaudit.rollouts.samples import Engine, Request, Sample
from plaudit.training.faults import save_faulty_batch
from plaudit.training.rl.experience import Experience, numbered_trees
from plaudit.training.run_directory import StageDirectory
from plaudit.training.session import Session
from plaudit.training.token_budget import TokenBudget

GROUP_EPSILON = 1e-6  # added to the standard deviation of a group's scores


@dataclass(frozen=True)
class TokenRows:
    """What the models say of the rollouts: [responses, time] each, zero behind the end of a response."""

    old: Tensor
    reference: Tensor
    values: Tensor
    entropies: Tensor


class Collector:
    """Generates, scores and evaluates the rollouts of an iteration, every process its share of the prompts."""

    def __init__(
        self,
        config: RlConfig,
        roles: Roles,
        engine: Engine,
        reward: ComposedReward,
        session: Session,
        stage: StageDirectory,
        budget: TokenBudget,
    ) -> None:
        self.config, self.roles, self.engine, self.reward = config, roles, engine, reward
        self.session, self.stage, self.budget = session, stage, budget

    def collect(
        self, prompts: Sequence[Sequence[Request]], controller: FixedKl, scale: RunningMoments
    ) -> tuple[Experience, dict[str, float]]:
        """Return the experience of an iteration and its metrics.

        ``prompts`` holds, for every prompt of all processes, one request per response.
        """
        groups = self.session.merge_shares(self._rollouts(self.session.share(prompts)))
        samples = list(chain.from_iterable(groups))
        total, each = self._scores(groups)
        trees = _trees_of(groups)
        lengths = torch.tensor([len(sample.response_ids) for sample in samples])
        mask = response_mask(lengths)
        rows = self._evaluate(trees)
        kl = k1(rows.old, rows.reference)
        shaped = self._shaped(total, torch.tensor([sample.ended for sample in samples]), scale)
        rewards = token_rewards(shaped, kl, mask, controller.coefficient)
        advantages, returns = self._advantages(rewards, rows.values, mask)
        experience = Experience(trees, lengths, rows.old, advantages, returns, rows.values)
        metrics = self._metrics(samples, total, each, rows, kl, mask) | {"kl_coefficient": controller.coefficient}
        if self.config.advantages == "gae":
            metrics["explained_variance"] = float(explained_variance(rows.values, returns, mask))
        return experience, metrics

    def score(self, groups: Sequence[Sequence[Sample]]) -> ComposedScores:
        """Score the samples of all groups. A score that is no number stops the run, with the samples saved."""
        try:
            return self.reward.score(list(chain.from_iterable(groups)))
        except NonFiniteScoreError as fault:
            place = save_faulty_batch(self.stage.folder, _trees_of(groups), self.session.rank)
            raise PlauditError(f"{fault}; the batch is in {place}: look at what this source does with it") from fault

    # The steps -------------------------------------------------------------------------------------------------------

    def _rollouts(self, prompts: Sequence[Sequence[Request]]) -> list[list[Sample]]:
        self.roles.activate_policy()
        with self.session.autocast():
            samples = iter(self.engine.generate(list(chain.from_iterable(prompts)), self.config.generation))
        return [[next(samples) for _ in requests] for requests in prompts]

    def _scores(self, groups: Sequence[list[Sample]]) -> tuple[Tensor, dict[str, Tensor]]:
        own = self.session.share(groups)
        scored = self.score(own)
        columns = {"": scored.total, **scored.each}
        sizes = [len(group) for group in own]
        merged = {name: torch.cat(self.session.merge_shares(column.split(sizes))) for name, column in columns.items()}
        return merged.pop(""), merged

    def _evaluate(self, trees: Sequence[PromptTree]) -> TokenRows:
        own = self.session.share(trees)
        columns = self.budget.run(lambda positions: self._per_response(own, positions))
        sizes = [len(tree.responses) for tree in own]
        merged = []
        for column in columns:
            parts = iter(column)
            shares = self.session.merge_shares([[next(parts) for _ in range(size)] for size in sizes])
            merged.append(rows_from(list(chain.from_iterable(shares))))
        return TokenRows(*merged)

    def _per_response(self, trees: Sequence[PromptTree], positions: int) -> list[list[Tensor]]:
        if not trees:
            return [[], [], [], []]
        with self.session.autocast():
            return per_token(
                self._statistics,
                trees,
                self.roles.loaded.layout,
                self.session.device,
                positions,
                self.config.pack_length,
            )

    def _statistics(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        temperature = self.config.generation.temperature
        output = self.roles.policy(batch, temperature, "measured")
        reference = self.roles.reference(batch, temperature)
        values = output.values if output.values is not None else self.roles.values(batch)
        nothing = torch.zeros_like(reference)
        log_probabilities, entropies = output.statistics.log_probabilities, output.statistics.entropies
        assert entropies is not None
        return log_probabilities, reference, nothing if values is None else values, entropies

    def _shaped(self, scores: Tensor, ended: Tensor, scale: RunningMoments) -> Tensor:
        config = self.config
        scores = penalize_missing_end(scores, ended, config.missing_eos_penalty)
        if config.scale_rewards:
            scale.update(scores)
            scores = scale.scaled(scores)
        return scores if config.clip_rewards is None else clip_scores(scores, config.clip_rewards)

    def _advantages(self, rewards: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        config = self.config
        if config.advantages == "gae":
            advantages, returns = gae(rewards, values, mask, config.gamma, config.gae_lambda)
        else:
            totals = rewards.sum(1)
            per_response = (
                grpo(totals, config.responses_per_prompt, GROUP_EPSILON)
                if config.advantages == "grpo"
                else rloo(totals, config.responses_per_prompt)
            )
            advantages, returns = spread_over_tokens(per_response, mask), torch.zeros_like(rewards)
        whitens = config.advantages == "gae" if config.whiten_advantages is None else config.whiten_advantages
        return whiten(advantages, mask) if whitens else advantages, returns

    def _metrics(
        self,
        samples: Sequence[Sample],
        total: Tensor,
        each: dict[str, Tensor],
        rows: TokenRows,
        kl: Tensor,
        mask: Tensor,
    ) -> dict[str, float]:
        per_sequence = sequence_kl(kl, mask)
        engine = rows_from([torch.tensor(sample.log_probabilities) for sample in samples])
        metrics: dict[str, Any] = {
            "reward/mean": total.mean(),
            "reward/std": total.std(unbiased=False),
            **{f"reward/{name}": scores.mean() for name, scores in each.items()},
            "kl": per_sequence.mean(),
            "kl_error": per_sequence.std() / len(samples) ** 0.5,
            "entropy": masked_mean(rows.entropies, mask),
            "rollout_gap": (engine - rows.old)[mask].abs().max(),
            "response_length": mask.sum() / len(samples),
            "ended_share": sum(sample.ended for sample in samples) / len(samples),
        }
        return {name: float(value) for name, value in metrics.items()}


def _trees_of(groups: Sequence[Sequence[Sample]]) -> list[PromptTree]:
    return numbered_trees(
        [group[0].prompt_ids for group in groups], [tuple(s.response_ids for s in group) for group in groups]
    )
