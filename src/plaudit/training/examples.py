"""Prompt trees for a stage: read, split, tokenised, counted aloud; and the order in which they come."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig, Section
from plaudit.data.loading import load_rows
from plaudit.data.rows import Row
from plaudit.data.token_cache import FOLDER, CachingTokenizer
from plaudit.data.tokenization import Tokenized, to_trees
from plaudit.models.loading.models import LoadedModel
from plaudit.runs.context import StageContext
from plaudit.runs.directory import REJECTS
from plaudit.seeding import python_generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Examples:
    """Trees to learn from and held-out trees, and the row that each tree came from."""

    train: list[PromptTree]
    held_out: list[PromptTree]
    train_rows: list[Row]
    held_out_rows: list[Row]


def load_examples(
    context: StageContext[Section],
    config: DataConfig,
    kind: type[Row],
    loaded: LoadedModel,
    room_for_answer: int = 0,
) -> Examples:
    """Read a stage's data; bad rows go to a file of their own, and what was dropped or cut is printed.

    ``room_for_answer``: tokens of the context that prompts must leave free.
    """
    session = context.session
    rejects = context.directory.create().folder / REJECTS if session.is_main else None
    rows = load_rows(config, kind, rejects, context.seed)
    length = loaded.context_length - room_for_answer
    tokenizer = CachingTokenizer(loaded.tokenizer, Path(session.recipe.output) / FOLDER)
    train = to_trees(rows.train, tokenizer, config, length)
    held_out = to_trees(rows.held_out, tokenizer, config, length) if rows.held_out else Tokenized([], [], 0, 0)
    if session.is_main:
        for line in rows.summary():
            logger.info("%s: %s", context.name, line)
        for name, part in (("training", train), ("held-out", held_out)):
            if part.dropped or part.truncated:
                counted = f"{part.dropped} dropped, {part.truncated} truncated"
                logger.info("%s: %s rows too long: %s", context.name, name, counted)
    return Examples(train.trees, held_out.trees, train.rows, held_out.rows)


@dataclass(frozen=True)
class Order:
    """Which examples come when: every epoch visits each once, in an order that its number decides."""

    examples: int
    batch_size: int
    key: tuple[int | str, ...]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-self.examples // self.batch_size)

    def batch(self, step: int) -> Sequence[int]:
        """Return the examples of a step, steps counted from 1."""
        epoch, place = divmod(step - 1, self.steps_per_epoch)
        return _shuffled(self.examples, (*self.key, "epoch", epoch))[place * self.batch_size :][: self.batch_size]


@lru_cache(maxsize=4)
def _shuffled(count: int, key: tuple[int | str, ...]) -> tuple[int, ...]:
    order = list(range(count))
    python_generator(*key).shuffle(order)
    return tuple(order)
