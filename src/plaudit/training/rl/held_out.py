"""Held-out measurements in reinforcement learning: answers and scores held-out prompts."""

from collections.abc import Sequence

from plaudit.config.schema import RlConfig
from plaudit.data.rows import PromptRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.runs.context import StageContext
from plaudit.runs.jsonl import JsonLinesWriter
from plaudit.training.rl.prompts import PromptSchedule
from plaudit.training.rl.rollout_sampler import RolloutSampler
from plaudit.training.rl.scoring import ScoredGroups, Scorer

SHOWN_SAMPLES = 8


class HeldOutPrompts:
    """Generates one response per prompt, with the same prompts and seeds at every measurement."""

    def __init__(
        self,
        context: StageContext[RlConfig],
        rows: Sequence[TokenizedRow[PromptRow]],
        prompts: PromptSchedule,
        sampler: RolloutSampler,
        scorer: Scorer,
    ) -> None:
        self.requests = [prompts.requests(row, 1, "held out", number) for number, row in enumerate(rows)]
        self.sampler, self.scorer, self.samples_file = sampler, scorer, context.directory.samples
        self.is_main = context.session.is_main
        self.composed = sum(source.weight != 0 for source in context.config.rewards) > 1

    def measure(self, line: int) -> dict[str, float]:
        """Return the mean score of each source, and of their sum if it has several parts; write samples.

        ``line`` is the step number of the written samples.
        """
        if not self.requests:
            return {}
        samples = self.sampler.sample(self.requests)
        self.sampler.engine.release()
        scored = self.scorer.score(samples)
        columns = {"composed": scored.total, **scored.each} if self.composed else scored.each
        if self.is_main:
            self._write(line, scored)
        return {f"held_out/{name}": float(column.mean()) for name, column in columns.items()}

    def _write(self, line: int, scored: ScoredGroups) -> None:
        columns = {"composed": scored.total, **scored.each} if self.composed else scored.each
        with JsonLinesWriter(self.samples_file) as log:
            for number, sample in enumerate(scored.samples[:SHOWN_SAMPLES]):
                texts = {"prompt": sample.prompt_text, "response": sample.response_text}
                scores = {name: float(column[number]) for name, column in columns.items()}
                log.append({"step": line, **texts, "scores": scores})
