"""Direct preference optimization: trains a policy on comparisons or labels, without reward model or sampling."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from plaudit.algorithms.catalogue import preference_loss
from plaudit.algorithms.comparisons import comparison_statistics
from plaudit.algorithms.direct_preference_losses import mismatched_kl
from plaudit.algorithms.interface import LossOutputs, Maximum, Mean, PreferenceInputs
from plaudit.batching.batches import Batch
from plaudit.batching.trees import Example, PromptTree
from plaudit.config.schema import DpoConfig
from plaudit.data.rows import LabeledRow, RankingRow
from plaudit.models.loading.models import load_policy
from plaudit.models.saving import save_model
from plaudit.plugins import import_function
from plaudit.runs.context import StageContext
from plaudit.training.examples import Examples, StageRows, load_stage_rows
from plaudit.training.losses import load_loss
from plaudit.training.metric_sums import MetricSums
from plaudit.training.model_reader import ModelReader
from plaudit.training.preference_examples import Preference, label_ranks, prepared
from plaudit.training.reference_log_probabilities import SequenceModule
from plaudit.training.sample_completions import SampleCompletions
from plaudit.training.supervised import SupervisedTask


def settings_of(config: DpoConfig) -> dict[str, float]:
    """Return the settings of the loss: as configured, or its defaults, and those of a loss from outside."""
    defaults = preference_loss(config.loss).defaults
    given = {name: getattr(config, name) for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in given.items()} | config.loss_settings


class DpoTask(SupervisedTask[Preference]):
    """A prompt with ranked or labeled responses; the unit is a prompt."""

    module: SequenceModule
    headline_metric = "held_out/accuracy"

    def __init__(
        self,
        context: StageContext[DpoConfig],
        reader: ModelReader,
        module: SequenceModule,
        examples: Examples[Preference],
        samples: SampleCompletions,
    ) -> None:
        super().__init__(context, reader, examples)
        config = context.config
        self.objective, self.settings = preference_loss(config.loss), settings_of(config)
        self.loss = load_loss(self.objective, "dpo.loss")
        self.reward = import_function(self.objective.reward, "dpo.loss")
        self.module = module
        self.samples = samples
        self.reference_kl = 0.0

    def units_of(self, example: Example[Preference]) -> int:
        """Return 1: every prompt has the same weight, regardless of its number of responses."""
        return 1

    def prepare_step(self, examples: Sequence[Example[Preference]]) -> None:
        """Estimate the KL over the whole batch for a loss that reads labels."""
        if self.objective.reads == "labels":
            self.reference_kl = self._mismatched_kl(examples)

    def losses(self, batch: Batch, targets: Sequence[Preference]) -> Iterator[LossOutputs]:
        """Yield the sum of the loss over the micro-batch's prompts, divided by the step's number of prompts."""
        flat = self.inputs(batch.trees, targets, self.module(batch), self.reference_kl)
        yield self.with_metrics(self.loss(flat), flat, len(batch.trees)) / self.units

    def end_step(self, step: int, sums: MetricSums) -> dict[str, float] | None:
        """Return the step's metrics."""
        return _with_margin(sums.means())

    def measure(self, step: int) -> dict[str, float]:
        """Measure on the held-out prompts, and write sample completions."""
        self.samples.write(step, self.module)
        return super().measure(step)

    def measure_held_out(self) -> dict[str, float]:
        """Return loss, accuracy, rewards and drift."""
        held_out = list(self.held_out)
        kl = self._mismatched_kl(held_out) if self.objective.reads == "labels" else 0.0
        trees, targets = [example.tree for example in held_out], [example.target for example in held_out]
        flat, sums = self.inputs(trees, targets, self._measured(trees), kl), MetricSums()
        sums.add_metrics(self.with_metrics(self.loss(flat), flat, len(trees)).metrics)
        return {f"held_out/{name}": value for name, value in _with_margin(sums.means()).items()}

    def _measured(self, trees: Sequence[PromptTree]) -> Tensor:
        return self.reader.per_response(self.module, trees)

    def _mismatched_kl(self, examples: Sequence[Example[Preference]]) -> float:
        """Return the estimate of KL(policy || reference), in nats, for losses that read labels."""
        pairs = [example.target.mismatched for example in examples]
        reference = torch.tensor([pair.reference for pair in pairs if pair is not None])
        return float(mismatched_kl(self._measured([pair.tree for pair in pairs if pair is not None]) - reference))

    def inputs(
        self,
        trees: Sequence[PromptTree],
        targets: Sequence[Preference],
        log_probabilities: Tensor,
        reference_kl: float,
    ) -> PreferenceInputs:
        """Return the inputs of the loss, with the responses of all trees in flat tensors."""
        device = log_probabilities.device
        reference = [number for target in targets for number in target.reference or ()]
        return PreferenceInputs(
            log_probabilities,
            torch.tensor(reference, device=device) if self.objective.needs_reference else None,
            torch.tensor([length for tree in trees for length in tree.lengths], device=device),
            torch.tensor([number for number, tree in enumerate(trees) for _ in tree.responses], device=device),
            torch.tensor([rank for target in targets for rank in target.ranks], device=device),
            self.settings,
            reference_kl,
        )

    def with_metrics(self, outputs: LossOutputs, flat: PreferenceInputs, prompts: int) -> LossOutputs:
        """Add loss, implicit rewards and log-probabilities to the metrics; rewards are means over pairs, or responses.

        ``outputs`` are those of the loss, and ``prompts`` is the number of prompts in ``flat``.
        """
        metrics: dict[str, Mean | Maximum] = {"loss": Mean(outputs.loss, prompts)}
        rewards, best = self.reward(flat).detach(), flat.ranks == 0
        if self.objective.reads == "ranks":
            chosen, rejected = rewards[flat.pairs.better], rewards[flat.pairs.worse]
            statistics = comparison_statistics(chosen - rejected)
        else:
            chosen, rejected = rewards[best], rewards[~best]
            offsets = rewards - self.settings["beta"] * flat.reference_kl
            statistics = comparison_statistics(torch.where(best, offsets, -offsets))
            metrics["reference_kl"] = Mean(flat.reference_kl, 1)
        metrics |= {
            "accuracy": Mean(statistics.correct, statistics.pairs),
            "chosen_reward": Mean(chosen.sum(), len(chosen)),
            "rejected_reward": Mean(rejected.sum(), len(rejected)),
            "chosen_log_probability": Mean(flat.log_probabilities[best].sum(), flat.lengths[best].sum()),
        }
        if flat.reference is not None:
            metrics["drift"] = Mean(-flat.log_ratios.sum(), flat.lengths.sum())
        return LossOutputs(outputs.loss, {**metrics, **outputs.metrics})

    def save(self, folder: Path) -> dict[str, float]:
        """Write the policy."""
        numbers = self.closing_numbers()
        with self.context.strategy.gathered_in_main(self.module):
            self.session.processes.from_main(lambda: save_model(self.loaded.model, self.loaded.tokenizer, folder))
        return numbers

    def close(self) -> None:
        """Close the engine of the sample completions."""
        self.samples.close()


def _with_margin(means: dict[str, float]) -> dict[str, float]:
    """Add the gap between the mean rewards, if both are present."""
    if {"chosen_reward", "rejected_reward"} <= means.keys():
        return means | {"margin": means["chosen_reward"] - means["rejected_reward"]}
    return means


def load_dpo_task(context: StageContext[DpoConfig]) -> DpoTask:
    """Return the stage's task; reference log-probabilities are computed or read from the stage's folder."""
    config = context.config
    objective = preference_loss(config.loss)
    load_loss(objective, "dpo.loss")  # fails before the reference is computed
    loaded = context.strategy.load(lambda device: load_policy(config.model, device, context.seed))
    rows: StageRows[LabeledRow] | StageRows[RankingRow]
    if objective.reads == "labels":
        rows = labeled = load_stage_rows(context, config.data, LabeledRow, loaded, max_held_out=config.max_held_out)
        examples = labeled.examples(label_ranks)
    else:
        rows = ranked = load_stage_rows(context, config.data, RankingRow, loaded, max_held_out=config.max_held_out)
        examples = ranked.examples(lambda row: row.ranks)
    reader, module = ModelReader(context, loaded), SequenceModule(loaded.model)
    ready = prepared(context, objective, examples, reader, module)
    samples = SampleCompletions(context, loaded, rows)
    return DpoTask(context, reader, module, ready, samples)
