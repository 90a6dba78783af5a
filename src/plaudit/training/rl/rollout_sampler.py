"""An iteration's first steps: prompts in, scored responses out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from plaudit.algorithms.masking import ROUNDING
from plaudit.batching.trees import Example
from plaudit.config.schema import GenerationConfig, RlConfig
from plaudit.errors import PlauditError
from plaudit.rewards.sources import ComposedReward, ComposedScores, NonFiniteScoreError
from plaudit.rollouts.samples import Engine, Request, Sample
from plaudit.runs.context import StageContext
from plaudit.training.faulty_batch import save_faulty_batch
from plaudit.training.rl.experience import trees_of
from plaudit.training.rl.roles import Roles

Requests = list[Request]
"""One request per response to a prompt."""


@dataclass(frozen=True)
class ScoredGroups:
    """Responses to P prompts, a group each, and the scores of all R responses in their order.

    ``total`` is [R]; ``each`` holds the scores [R] of every source; ``greedy`` [P] the total scores of greedy
    responses, where the advantage estimator asks for them.
    """

    groups: list[list[Sample]]
    total: Tensor
    each: dict[str, Tensor]
    greedy: Tensor | None

    @property
    def samples(self) -> list[Sample]:
        """All responses, group by group."""
        return list(chain.from_iterable(self.groups))

    def has_spread(self) -> Tensor:
        """Return, for every prompt, whether its responses' scores differ by more than rounding, bool [P]."""
        scores = self.total.reshape(len(self.groups), -1)
        return scores.amax(1) - scores.amin(1) > ROUNDING * scores.abs().amax(1)

    def chosen(self, prompts: Tensor) -> "ScoredGroups":
        """Return the groups of the given prompts (indices, [any])."""
        size = len(self.total) // len(self.groups)
        responses = (prompts[:, None] * size + torch.arange(size)).flatten()
        return ScoredGroups(
            [self.groups[index] for index in prompts.tolist()],
            self.total[responses],
            {name: scores[responses] for name, scores in self.each.items()},
            None if self.greedy is None else self.greedy[prompts],
        )

    def extended(self, other: "ScoredGroups") -> "ScoredGroups":
        """Return these groups followed by the others."""
        greedy = None
        if self.greedy is not None and other.greedy is not None:
            greedy = torch.cat([self.greedy, other.greedy])
        each = {name: torch.cat([scores, other.each[name]]) for name, scores in self.each.items()}
        return ScoredGroups(self.groups + other.groups, torch.cat([self.total, other.total]), each, greedy)


class RolloutSampler:
    """Generates and scores responses. Every process handles its shard of the prompts and gets all results."""

    def __init__(
        self,
        context: StageContext[RlConfig],
        roles: Roles,
        engine: Engine,
        reward: ComposedReward,
        uses_greedy: bool,
    ) -> None:
        self.context, self.config, self.session = context, context.config, context.session
        self.roles, self.engine, self.reward, self.uses_greedy = roles, engine, reward, uses_greedy

    def collect(self, draw: Callable[[int], Sequence[Requests]]) -> tuple[ScoredGroups, dict[str, float]]:
        """Return scored responses to as many prompts as an iteration has, and what dynamic sampling did.

        ``draw(n)`` returns the requests of the next n prompts. With ``dynamic_sampling``, prompts whose responses all
        have the same score are replaced by further ones, as long as there are rounds left (Yu et al. 2025, DAPO).
        """
        wanted = self.config.prompts_per_iteration
        drawn = self._scored(draw(wanted))
        if not self.config.dynamic_sampling:
            return drawn, {}
        rounds = 0
        while (missing := wanted - int(drawn.has_spread().sum())) > 0 and rounds < self.config.dynamic_sampling:
            drawn = drawn.extended(self._scored(draw(missing)))
            rounds += 1
        spread = drawn.has_spread()
        # Prompts with spread first, each part in the order drawn; what is still missing is filled with those without.
        order = torch.cat([spread.nonzero()[:, 0], (~spread).nonzero()[:, 0]])[:wanted]
        return drawn.chosen(order), {"prompts_drawn": float(len(drawn.groups)), "sampling_rounds": float(rounds)}

    def score(self, groups: Sequence[Sequence[Sample]]) -> ComposedScores:
        """Score the samples of all groups. A non-finite score stops the run and saves the samples."""
        try:
            with self.session.autocast():
                return self.reward.score(list(chain.from_iterable(groups)))
        except NonFiniteScoreError as fault:
            examples = [Example(tree, None) for tree in trees_of(groups)]
            place = save_faulty_batch(self.context.directory.folder, examples, self.session.rank)
            raise PlauditError(f"{fault}; the batch is in {place}: look at what this source does with it") from fault

    def _scored(self, prompts: Sequence[Requests]) -> ScoredGroups:
        own = self._generated(self.session.shard(prompts), self.config.generation)
        total, each = self._scores(own)
        greedy = self._greedy_scores(prompts) if self.uses_greedy else None
        return ScoredGroups(self.session.merge_shards(own), total, each, greedy)

    def _generated(self, prompts: Sequence[Requests], settings: GenerationConfig) -> list[list[Sample]]:
        self.roles.activate_policy()
        with self.session.autocast():
            samples = iter(self.engine.generate(list(chain.from_iterable(prompts)), settings))
        return [[next(samples) for _ in requests] for requests in prompts]

    def _greedy_scores(self, prompts: Sequence[Requests]) -> Tensor:
        settings = self.config.generation.model_copy(update={"temperature": 0.0, "top_k": 0, "top_p": 1.0})
        return self._scores(self._generated([requests[:1] for requests in self.session.shard(prompts)], settings))[0]

    def _scores(self, own: Sequence[list[Sample]]) -> tuple[Tensor, dict[str, Tensor]]:
        scored = self.score(own)
        columns = {"": scored.total, **scored.each}
        sizes = [len(group) for group in own]
        merged = {name: torch.cat(self.session.merge_shards(column.split(sizes))) for name, column in columns.items()}
        return merged.pop(""), merged
