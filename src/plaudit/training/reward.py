"""Trains a reward model on comparisons: prompts with K ranked responses; a pair is K = 2."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from plaudit.algorithms.catalogue import reward_loss
from plaudit.algorithms.comparisons import (
    calibration_table,
    comparison_statistics,
    expected_calibration_error,
    score_gaps,
)
from plaudit.algorithms.interface import LossOutputs, Mean, RewardInputs
from plaudit.algorithms.preference_losses import centering_penalty
from plaudit.batching.batches import Batch
from plaudit.batching.trees import Example
from plaudit.config.schema import ModelConfig, RewardConfig
from plaudit.data.rows import RankingRow
from plaudit.data.rows.ranking import Ranks
from plaudit.data.selection import Selected, drawn
from plaudit.evaluation.reward_judgement import judge_reward_model
from plaudit.models.heads.scalar import ScoreModule, scalar_head
from plaudit.models.loading.models import LoadedModel, load_scorer
from plaudit.models.reward_model import ScoreScale, save_reward_model
from plaudit.models.trunk import unwrapped
from plaudit.runs.context import StageContext
from plaudit.seeding import python_generator
from plaudit.training.examples import Examples, StageRows, load_stage_rows
from plaudit.training.health_checks import warn_if_not_better_than_chance
from plaudit.training.losses import load_loss
from plaudit.training.model_reader import ModelReader
from plaudit.training.supervised import SupervisedTask

CALIBRATION_BINS = 10
BASELINE_ROWS = 20_000
"""At most so many training rows, drawn at random, fit the trivial baselines."""
NORMALIZATION_RESPONSES = 4096
"""At most so many training responses define the scale of the scores."""


@dataclass(frozen=True)
class Comparisons:
    """The responses of several prompts in flat tensors [R]: the index of each response's prompt, and its rank."""

    prompts: Tensor
    ranks: Tensor

    @classmethod
    def of(cls, all_ranks: Sequence[Ranks], device: torch.device) -> "Comparisons":
        """Flatten the ranks of several prompts' responses."""
        prompts = [number for number, ranks in enumerate(all_ranks) for _ in ranks]
        flat = [rank for ranks in all_ranks for rank in ranks]
        return cls(torch.tensor(prompts, device=device), torch.tensor(flat, device=device))


class RewardTask(SupervisedTask[Ranks]):
    """K ranked responses per prompt; the unit is a prompt."""

    headline_metric = "held_out/accuracy"

    def __init__(
        self,
        context: StageContext[RewardConfig],
        reader: ModelReader,
        examples: Examples[Ranks],
        rows: StageRows[RankingRow],
    ) -> None:
        """``rows`` are those of the examples; the baselines read their texts."""
        super().__init__(context, reader, examples)
        self.config = config = context.config
        entry = reward_loss(config.loss)
        self.loss = load_loss(entry, "reward.loss")
        self.settings = {name: getattr(config, name) for name in entry.defaults} | config.loss_settings
        self.module = ScoreModule(self.loaded.model)
        self.rows = rows

    def units_of(self, example: Example[Ranks]) -> int:
        """Return 1: every prompt has the same weight, regardless of its number of responses."""
        return 1

    def losses(self, batch: Batch, targets: Sequence[Ranks]) -> Iterator[LossOutputs]:
        """Yield the sum of the losses over the micro-batch's prompts, divided by the step's number of prompts."""
        scores = self.module(batch)
        flat = Comparisons.of(targets, scores.device)
        inputs = self._inputs(scores, flat)
        ranking = self.loss(inputs)
        loss = ranking.loss
        if self.config.centering:
            loss = loss + self.config.centering * centering_penalty(scores, flat.prompts).loss
        statistics = comparison_statistics(score_gaps(scores.detach(), inputs.pairs))
        metrics = {
            "loss": Mean(loss, len(batch.trees)),
            "accuracy": Mean(statistics.correct, statistics.pairs),
            "margin": Mean(statistics.margin, statistics.pairs),
        }
        yield LossOutputs(loss, {**metrics, **ranking.metrics}) / self.units

    def _inputs(self, scores: Tensor, flat: Comparisons) -> RewardInputs:
        return RewardInputs(scores, flat.prompts, flat.ranks, self.settings)

    def measure_held_out(self) -> dict[str, float]:
        """Return loss, pair accuracy, mean margin and calibration error."""
        scores = self.raw_scores(self.held_out)
        flat = Comparisons.of([example.target for example in self.held_out], torch.device("cpu"))
        inputs = self._inputs(scores, flat)
        gaps = score_gaps(scores, inputs.pairs)
        statistics = comparison_statistics(gaps)
        pairs = float(statistics.pairs)
        calibration = expected_calibration_error(calibration_table(gaps, CALIBRATION_BINS))
        return {
            "held_out/loss": float(self.loss(inputs).loss) / len(self.held_out),
            "held_out/accuracy": float(statistics.correct) / pairs,
            "held_out/margin": float(statistics.margin) / pairs,
            "held_out/calibration_error": float(calibration),
            "held_out/pairs": pairs,
        }

    def raw_scores(self, examples: Sequence[Example[Ranks]]) -> Tensor:
        """Return the unscaled scores of all responses, [R]."""
        return self.reader.per_response(self.module, [example.tree for example in examples])

    def save(self, folder: Path) -> dict[str, Any]:
        """Write the model with its scale, which gives mean 0 and variance 1 on the training responses."""
        scale = ScoreScale.normalizing(self.raw_scores(self._reference())) if self.config.normalize else ScoreScale()
        numbers = self.closing_numbers()
        judgement = self._judgement() if self.held_out else {}
        if judgement:
            measured = [judgement[f"held_out_accuracy/{name}"] for name in ("accuracy", "low", "high", "pairs")]
            warn_if_not_better_than_chance(*measured)
        with self.context.strategy.gathered_in_main(self.module):
            self.session.processes.from_main(
                lambda: save_reward_model(self.loaded.model, self.loaded.tokenizer, scale, folder)
            )
        return numbers | {"gain": scale.gain, "bias": scale.bias, "scale_responses": scale.responses} | judgement

    def _judgement(self) -> dict[str, Any]:
        """Return the held-out accuracy with its interval, next to that of trivial baselines."""
        scores = self.raw_scores(self.held_out)
        ranks = [example.target for example in self.held_out]
        if not self.session.is_main:
            return {}
        fitted = drawn(np.arange(len(self.rows.train)), BASELINE_ROWS, self.context.seed, "baselines")
        train = Selected(self.rows.train, fitted)
        judgement = judge_reward_model(scores, ranks, train, self.rows.held_out)
        return judgement | {"baseline_rows": len(train)}

    def _reference(self) -> Sequence[Example[Ranks]]:
        """Return the training examples whose responses define the scale: all, or a random selection."""
        generator = python_generator(self.context.seed, "normalization")
        kept, responses = [], 0
        for index in generator.sample(range(len(self.train)), min(len(self.train), NORMALIZATION_RESPONSES)):
            responses += len(self.train[index].target)
            if responses > NORMALIZATION_RESPONSES:
                break
            kept.append(index)
        return [self.train[index] for index in sorted(kept)]


def load_reward_task(context: StageContext[RewardConfig], member: int = 1) -> RewardTask:
    """Return the stage's task; a model without a trained head gets a new one.

    ``member`` numbers the models of an ensemble from 1. Random initial weights differ between members.
    """
    config, seed = context.config, context.seed + member - 1
    load_loss(reward_loss(config.loss), "reward.loss")  # fails before the model is loaded
    loaded = context.strategy.load(lambda device: _load_scorer(config.model, device, seed))
    rows = load_stage_rows(context, config.data, RankingRow, loaded, max_held_out=config.max_held_out)
    examples = rows.examples(lambda row: row.ranks)
    return RewardTask(context, ModelReader(context, loaded), examples, rows)


def _load_scorer(config: ModelConfig, device: torch.device, seed: int) -> LoadedModel:
    loaded, has_head = load_scorer(config, device, seed)
    if not has_head:
        _start_head(loaded, seed)
    return loaded


def _start_head(loaded: LoadedModel, seed: int) -> None:
    """Draw the head's weights from N(0, 1/(d+1)), where d is the hidden size (Stiennon et al. 2020, appendix B.1)."""
    hidden_size = unwrapped(loaded.model).config.hidden_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = scalar_head(hidden_size, (hidden_size + 1) ** -0.5)
    score = unwrapped(loaded.model).score
    trained = score.modules_to_save["default"] if hasattr(score, "modules_to_save") else score
    with torch.no_grad():
        trained.weight.copy_(head.weight)
