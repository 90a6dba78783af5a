"""A reward model from comparisons: prompts with K ranked responses, a pair being K = 2."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from plaudit.algorithms.catalogue import reward_loss
from plaudit.algorithms.comparisons import (
    calibration_table,
    comparison_statistics,
    expected_calibration_error,
    score_gaps,
)
from plaudit.algorithms.interface import RewardInputs
from plaudit.algorithms.preference_losses import centering_penalty
from plaudit.batching.batches import Batch
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import RewardConfig
from plaudit.data.rows import RankingRow
from plaudit.models.heads.scalar import ScoreModule, scalar_head
from plaudit.models.inference import per_response
from plaudit.models.loading.models import LoadedModel, load_scorer
from plaudit.models.reward_model import ScoreScale, save_reward_model
from plaudit.models.trunk import unwrapped
from plaudit.runs.context import StageContext
from plaudit.training.examples import Examples, load_examples
from plaudit.training.health_checks import warn_if_no_better_than_chance
from plaudit.training.losses import load_loss
from plaudit.training.metric_sums import MetricSums
from plaudit.training.supervised import SupervisedTask

CALIBRATION_BINS = 10


@dataclass(frozen=True)
class Comparisons:
    """Responses laid flat, [R] each: the prompt that a response belongs to, and its rank."""

    prompts: Tensor
    ranks: Tensor

    @classmethod
    def of(cls, trees: Sequence[PromptTree], device: torch.device) -> "Comparisons":
        """Lay the trees' ranks flat."""
        prompts = [number for number, tree in enumerate(trees) for _ in tree.responses]
        ranks = [rank for tree in trees for rank in tree.fields["ranks"]]
        return cls(torch.tensor(prompts, device=device), torch.tensor(ranks, device=device))


class RewardTask(SupervisedTask):
    """K ranked responses per prompt; the unit is a prompt."""

    headline_metric = "held_out/accuracy"

    def __init__(self, context: StageContext[RewardConfig], loaded: LoadedModel, examples: Examples) -> None:
        # A prompt whose responses all tie says nothing about their order.
        train, held_out = ([t for t in trees if _has_order(t)] for trees in (examples.train, examples.held_out))
        super().__init__(context, loaded, train, held_out)
        self.config = config = context.config
        entry = reward_loss(config.loss)
        self.loss = load_loss(entry, "reward.loss")
        self.settings = {name: getattr(config, name) for name in entry.defaults}
        self.module = ScoreModule(loaded.model)
        self.last_measurement: dict[str, float] = {}
        self.held_out_scores = torch.zeros(0)

    def units_of(self, tree: PromptTree) -> int:
        """Return 1: every prompt weighs the same, however many responses it has."""
        return 1

    def losses(self, batch: Batch, sums: MetricSums) -> Iterator[Tensor]:
        """Yield the ranking loss (and the centering penalty), summed over prompts, over the step's prompts."""
        scores = self.module(batch)
        flat = Comparisons.of(batch.trees, scores.device)
        inputs = self._inputs(scores, flat)
        ranking = self.loss(inputs)
        loss = ranking.loss
        if self.config.centering:
            loss = loss + self.config.centering * centering_penalty(scores, flat.prompts).loss
        statistics = comparison_statistics(score_gaps(scores.detach(), inputs.pairs))
        sums.add("loss", loss, len(batch.trees))
        sums.add_metrics(ranking.metrics)
        sums.add("accuracy", statistics.correct, statistics.pairs)
        sums.add("margin", statistics.margin, statistics.pairs)
        yield loss / self.units

    def _inputs(self, scores: Tensor, flat: Comparisons) -> RewardInputs:
        return RewardInputs(scores, flat.prompts, flat.ranks, self.settings)

    def measure(self, step: int) -> dict[str, float]:
        """Return held-out loss, pair accuracy, mean margin and calibration error."""
        if not self.held_out:
            return {}
        scores, flat = self.raw_scores(self.held_out), Comparisons.of(self.held_out, torch.device("cpu"))
        self.held_out_scores = scores
        inputs = self._inputs(scores, flat)
        gaps = score_gaps(scores, inputs.pairs)
        statistics = comparison_statistics(gaps)
        pairs = float(statistics.pairs)
        calibration = expected_calibration_error(calibration_table(gaps, CALIBRATION_BINS))
        self.last_measurement = {
            "held_out/loss": float(self.loss(inputs).loss) / len(self.held_out),
            "held_out/accuracy": float(statistics.correct) / pairs,
            "held_out/margin": float(statistics.margin) / pairs,
            "held_out/calibration_error": float(calibration),
            "held_out/pairs": pairs,
        }
        return self.last_measurement

    def raw_scores(self, trees: Sequence[PromptTree]) -> Tensor:
        """Return the scores of all responses before any scale, [R], all processes together."""
        own = self.session.shard(trees)
        with self.session.autocast():
            scores = self.budget.run(
                lambda positions: per_response(
                    self.module, self.module, own, self.layout, self.session.device, positions
                )
            )
        parts = scores.split([len(tree.responses) for tree in own])
        return torch.cat(self.session.merge_shards(parts))

    def save(self, folder: Path) -> dict[str, float]:
        """Write the model with its scale: mean 0 and variance 1 on the training responses."""
        scale = ScoreScale.normalizing(self.raw_scores(self.train)) if self.config.normalize else ScoreScale()
        if not self.last_measurement:  # resumed after the last step: it was measured by a process that is gone
            self.measure(self.steps)
        if self.last_measurement and self.session.is_main:
            warn_if_no_better_than_chance(
                self.last_measurement["held_out/accuracy"], self.last_measurement["held_out/pairs"]
            )
        if self.session.is_main:
            save_reward_model(self.loaded.model, self.loaded.tokenizer, scale, folder)
        return {
            "steps": float(self.steps),
            "training_prompts": float(len(self.train)),
            "held_out_prompts": float(len(self.held_out)),
            "gain": scale.gain,
            "bias": scale.bias,
            **self.last_measurement,
        }


def _has_order(tree: PromptTree) -> bool:
    return len(set(tree.fields["ranks"])) > 1


def load_reward_task(context: StageContext[RewardConfig], member: int = 1) -> tuple[RewardTask, Examples]:
    """Return the stage's task and its examples; a model without a trained head gets a new one.

    ``member`` numbers the models of an ensemble from 1: each starts from random weights of its own where there are any.
    """
    config, seed = context.config, context.seed + member - 1
    loaded, has_head = load_scorer(config.model, context.session.device, seed)
    if not has_head:
        _start_head(loaded, seed)
    examples = load_examples(context, config.data, RankingRow, loaded)
    return RewardTask(context, loaded, examples), examples


def _start_head(loaded: LoadedModel, seed: int) -> None:
    """Draw the head from N(0, 1/(d+1)), d being the hidden size (Stiennon et al. 2020, appendix B.1)."""
    hidden_size = unwrapped(loaded.model).config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = scalar_head(hidden_size, (hidden_size + 1) ** -0.5)
    score = unwrapped(loaded.model).score
    trained = score.modules_to_save["default"] if hasattr(score, "modules_to_save") else score
    with torch.no_grad():
        trained.weight.copy_(head.weight)
