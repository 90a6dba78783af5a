"""Sample completions of a language model at every held-out measurement, for people to read."""

import logging
from itertools import islice
from typing import Any

from torch import nn

from plaudit.config.schema import GenerationConfig, LanguageModelStageConfig
from plaudit.data.rows import Origin, PromptRow
from plaudit.data.tokenization import tokenize_rows
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.models.loading.models import LoadedModel
from plaudit.rollouts.engines.model_engine import configured_engine
from plaudit.rollouts.samples import Request
from plaudit.runs.context import StageContext
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.seeding import derived_seed
from plaudit.training.engine_weights import EngineWeights
from plaudit.training.examples import StageRows

logger = logging.getLogger(__name__)

SEARCHED_ROWS = 2000
"""Prompts that leave room for a completion are looked for among so many rows."""


class SampleCompletions:
    """Completes the same prompts every time: those of the configuration, or the first held-out ones."""

    def __init__(
        self,
        context: StageContext[LanguageModelStageConfig],
        loaded: LoadedModel,
        rows: StageRows[Any],
    ) -> None:
        self.context, self.config, self.session, self.loaded = context, context.config, context.session, loaded
        self.requests = self._requests(rows)
        self.engine = configured_engine(self.config.sample_engine, loaded, self.session.processes)

    def write(self, step: int, module: nn.Module) -> None:
        """Append the completions of ``module`` to the stage's samples, in the main process."""
        if not self.requests:
            return
        weights = EngineWeights(self.engine, self.context.strategy, module)
        weights.update(step)
        with weights.generating():
            if self.session.is_main:
                self._write(step)
        self.engine.release()

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()

    def _write(self, step: int) -> None:
        settings = GenerationConfig(engine=self.config.sample_engine, max_new_tokens=self.config.sample_tokens)
        with self.session.autocast():
            samples = self.engine.generate(self.requests, settings)
        with JsonLinesWriter(self.context.directory.samples) as log:
            for sample in samples:
                log.append({"step": step, "prompt": sample.prompt_text, "response": sample.response_text, "scores": {}})

    def _requests(self, rows: StageRows[Any]) -> list[Request]:
        prompt_limit = self.loaded.context_length - self.config.sample_tokens
        if self.config.sample_prompts:
            given = [
                PromptRow(text, Origin("sample_prompts", i)) for i, text in enumerate(self.config.sample_prompts, 1)
            ]
            prompts: list[TokenizedRow[Any]] = [
                *tokenize_rows(given, self.loaded.tokenizer, self.config.data, prompt_limit).rows
            ]
        else:
            first = (rows.held_out or rows.train)[:SEARCHED_ROWS]
            fitting = (row for row in first if len(row.tree.prompt) <= prompt_limit)
            prompts = list(islice(fitting, self.config.samples))
            if self.config.samples and not prompts and self.session.is_main:
                logger.warning(
                    "%s: no sample completions: none of the first %d prompts leaves room for sample_tokens=%d in the "
                    "context of %d tokens",
                    *(self.context.name, len(first), self.config.sample_tokens, self.loaded.context_length),
                )
        return [
            Request(row.tree.prompt, row.prompt_text, derived_seed(self.context.seed, "sample", number))
            for number, row in enumerate(prompts)
        ]
