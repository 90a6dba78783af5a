"""Supervised fine-tuning and language modeling: minimize -log p(response | prompt), a sum over tokens."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from plaudit.algorithms.interface import LossOutputs, Mean
from plaudit.batching.batches import Batch
from plaudit.batching.trees import Example
from plaudit.config.schema import SftConfig
from plaudit.data.rows import Row
from plaudit.data.rows.registry import ROW_KINDS
from plaudit.data.selection import Mapped
from plaudit.data.tokenization import with_loss_on_all
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.loading.models import load_policy
from plaudit.models.saving import save_model
from plaudit.runs.context import StageContext
from plaudit.training.examples import Examples, load_stage_rows
from plaudit.training.model_reader import ModelReader
from plaudit.training.sample_completions import SampleCompletions
from plaudit.training.supervised import SupervisedTask


class SftTask(SupervisedTask[None]):
    """One response per prompt; the unit is a response token."""

    headline_metric = "held_out/loss"

    def __init__(
        self,
        context: StageContext[SftConfig],
        reader: ModelReader,
        examples: Examples[None],
        samples: SampleCompletions,
    ) -> None:
        super().__init__(context, reader, examples)
        self.config = context.config
        self.module = PolicyModule(self.loaded.model)
        self.samples = samples

    def units_of(self, example: Example[None]) -> int:
        """Return the number of response tokens."""
        return example.tree.response_tokens

    def losses(self, batch: Batch, targets: Sequence[None]) -> Iterator[LossOutputs]:
        """Yield the negative sum of log-probabilities, divided by the step's number of response tokens."""
        log_probabilities = self.module(batch).statistics.log_probabilities
        loss = -log_probabilities.sum()
        metrics = {"loss": Mean(loss, log_probabilities.numel()), "tokens": Mean(self.units, 1)}
        yield LossOutputs(loss, metrics) / self.units

    def measure(self, step: int) -> dict[str, float]:
        """Measure on the held-out examples, and write sample completions."""
        self.samples.write(step, self.module)
        return super().measure(step)

    def measure_held_out(self) -> dict[str, float]:
        """Return loss per token, perplexity and token accuracy."""
        own = self.session.processes.shard([example.tree for example in self.held_out])
        sums = torch.zeros(3, dtype=torch.float64)
        columns = self.reader.of_shard(self._measured, self.module, own)
        for part, hits in zip(*columns, strict=True):
            sums += torch.tensor([part.double().sum(), hits.double().sum(), len(part)])
        everyone = self.session.processes.of_data_ranks(self.session.processes.gather(sums))
        loss, hits_total, tokens = torch.stack(everyone).sum(0).tolist()
        mean = -loss / tokens
        return {
            "held_out/loss": mean,
            "held_out/perplexity": math.exp(min(mean, 700.0)),
            "held_out/accuracy": hits_total / tokens,
        }

    def _measured(self, batch: Batch) -> tuple[Tensor, Tensor]:
        statistics = self.module(batch, extras="measured").statistics
        assert statistics.likeliest is not None
        return statistics.log_probabilities, statistics.likeliest

    def save(self, folder: Path) -> dict[str, float]:
        """Write the model."""
        with self.context.strategy.gathered_in_main(self.module):
            self.session.processes.from_main(lambda: save_model(self.loaded.model, self.loaded.tokenizer, folder))
        return {"steps": float(self.steps), "training_rows": float(len(self.train))}

    def close(self) -> None:
        """Close the engine of the sample completions."""
        self.samples.close()


def load_sft_task(context: StageContext[SftConfig], usual_rows: Literal["text", "response"]) -> SftTask:
    """Return the stage's task; ``usual_rows`` is the kind of rows that ``rows: auto`` means in this stage."""
    config = context.config
    loaded = context.strategy.load(lambda device: load_policy(config.model, device, context.seed))
    kind = ROW_KINDS[usual_rows if config.rows == "auto" else config.rows]
    # With loss_on=all, everything is learned as one response.
    earlier = config.learn_turns == "all" and config.loss_on == "response"
    rows = load_stage_rows(
        context, config.data, kind, loaded, learn_earlier_turns=earlier, max_held_out=config.max_held_out
    )
    train, held_out = (Mapped(part, lambda row: _example(row, config)) for part in (rows.train, rows.held_out))
    samples = SampleCompletions(context, loaded, rows)
    return SftTask(context, ModelReader(context, loaded), Examples(train, held_out), samples)


def _example(row: TokenizedRow[Row], config: SftConfig) -> Example[None]:
    return Example(with_loss_on_all(row.tree) if config.loss_on == "all" else row.tree, None)
