"""Scores responses."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from plaudit.algorithms.masking import ROUNDING
from plaudit.batching.trees import Example
from plaudit.config.schema import RlConfig
from plaudit.errors import PlauditError
from plaudit.rewards.sources import ComposedReward, NonFiniteScoreError
from plaudit.rewards.truncation import merged_counts
from plaudit.rollouts.samples import Sample
from plaudit.runs.context import StageContext
from plaudit.training.faulty_batch import save_faulty_batch
from plaudit.training.rl.experience import trees_of


@dataclass(frozen=True)
class ScoredGroups:
    """Responses to P prompts, one group each, and the scores of all R responses in their order.

    ``total`` is [R]; ``each`` holds the scores [R] of every source; ``greedy`` [P] holds the total scores of greedy
    responses, if the advantage estimator needs them.
    """

    groups: list[list[Sample]]
    total: Tensor
    each: dict[str, Tensor]
    greedy: Tensor | None = None

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


class Scorer:
    """Scores every process's samples with the reward and distributes all samples and scores to all processes."""

    def __init__(self, context: StageContext[RlConfig], reward: ComposedReward) -> None:
        self.reward, self.session, self.folder = reward, context.session, context.directory.folder

    def truncated_fractions(self) -> dict[str, float]:
        """Return metrics: for every classifier, the fraction of its texts that were truncated since the last call."""
        counts = {name: merged_counts(own, self.session.processes) for name, own in self.reward.take_counts().items()}
        return {f"truncated/{name}": own.truncated / own.texts for name, own in counts.items() if own.texts}

    def score(self, own: Sequence[list[Sample]]) -> ScoredGroups:
        """Score the groups of this process's shard and return those of all prompts.

        Raises:
            PlauditError: a score is not a finite number; the samples are saved first.
        """
        try:
            with self.session.autocast():
                scored = self.reward.score(list(chain.from_iterable(own)))
        except NonFiniteScoreError as fault:
            examples = [Example(tree, None) for tree in trees_of(own)]
            file = save_faulty_batch(self.folder, examples, self.session.rank)
            raise PlauditError(f"{fault}; the batch is in {file}: check how this source scores it") from fault
        sizes = [len(group) for group in own]

        def merged(column: Tensor) -> Tensor:
            return torch.cat(self.session.processes.merge_shards(column.split(sizes)))

        total, each = merged(scored.total), {name: merged(scores) for name, scores in scored.each.items()}
        return ScoredGroups(self.session.processes.merge_shards(own), total, each)
