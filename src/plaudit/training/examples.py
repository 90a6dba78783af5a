"""Loads the examples of a stage (reads, splits, tokenizes and reports them) and defines their order in training."""

import logging
import math
from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

import numpy as np

from plaudit.batching.trees import Example
from plaudit.config.schema import DataConfig, Section, SupervisedStageConfig
from plaudit.data.loading import LoadedRows, load_rows
from plaudit.data.prompt_record import PromptRecord, read_record, record_of, remember
from plaudit.data.rows import Row
from plaudit.data.selection import Indices, Mapped, drawn
from plaudit.data.store.cache import DataCache
from plaudit.data.store.trees import JoinedTrees, StoredTrees
from plaudit.data.template_checks import unfaithful_refusal
from plaudit.data.templates import BYPASSED, check_prompt_template
from plaudit.data.tokenization import Tokenized, within_limits
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.data.unwritten import Unwritten
from plaudit.errors import PlauditError
from plaudit.models.loading.models import LoadedModel
from plaudit.runs.context import StageContext
from plaudit.runs.directory import REJECTS
from plaudit.seeding import python_generator

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Row)
T = TypeVar("T")


@dataclass(frozen=True)
class Examples(Generic[T]):
    """The training and held-out examples of a task."""

    train: Sequence[Example[T]]
    held_out: Sequence[Example[T]]


@dataclass(frozen=True)
class StageRows(Generic[R]):
    """A stage's tokenized training and held-out rows."""

    train: Sequence[TokenizedRow[R]]
    held_out: Sequence[TokenizedRow[R]]

    def examples(self, target: Callable[[R], T]) -> Examples[T]:
        """Return the rows as examples, with the target ``target(row)``."""

        def example(row: TokenizedRow[R]) -> Example[T]:
            return Example(row.tree, target(row.row))

        return Examples(Mapped(self.train, example), Mapped(self.held_out, example))


def load_stage_rows(
    context: StageContext[Section],
    config: DataConfig,
    kind: type[R],
    loaded: LoadedModel,
    longest: int | None = None,
    learn_earlier_turns: bool = True,
    max_held_out: int | None = None,
) -> StageRows[R]:
    """Read a stage's data, write bad records to a separate file, and log what was dropped or truncated.

    ``longest``: tokens of the longest row that is kept; None for the context of the model. ``learn_earlier_turns``:
    whether the assistant's turns before the response are learned where rows allow it. ``max_held_out``: draw at most
    this many held-out rows. Raises PlauditError if the tokenizer cannot write too large a part of the data.
    """
    session, tokenizer = context.session, loaded.tokenizer
    rejects = context.directory.create().folder / REJECTS if session.is_main else None
    cache = DataCache.of(session.recipe.output)
    rows = load_rows(config, kind, rejects, context.seed, cache)
    place = f"{context.name}.{_key_of(context, config)}"
    check_prompt_template(rows.prompt_kinds, config, place, config.sources[0].path)
    stored = [cache.trees(source, tokenizer, config, learn_earlier_turns) for source in rows.sources]
    trees, length = JoinedTrees(stored), loaded.context_length if longest is None else longest
    measured = drawn(rows.held_out_indices, max_held_out, context.seed, "held out")
    train, held_out = (
        within_limits(trees, trees.of_rows(indices), tokenizer, config, length)
        for indices in (rows.train_indices, measured)
    )
    notes = [rows.note] if rows.note else []
    if len(measured) < len(rows.held_out_indices):
        notes.append(f"{len(measured)} of {len(rows.held_out_indices)} held-out rows are measured (max_held_out)")
    record = record_of(rows.prompt_kinds, tokenizer, config)
    remember(tokenizer, record)
    if session.is_main:
        context.directory.write_notes(notes)
        _log_rows(context.name, rows, notes[bool(rows.note) :], stored)
        for name, limited in (("training", train), ("held-out", held_out)):
            if limited.dropped or limited.truncated:
                _log_too_long(f"{context.name}: {name}", limited)
            _log_counted(f"{context.name}: {name}", limited.counted)
        _warn_of_other_prompts(context, record)
        _log_unwritten(context.name, _written(stored))
    _refuse_unusable(context.name, config, stored, train)
    return StageRows(train.rows, held_out.rows)


def _written(stored: Sequence[StoredTrees[Any]]) -> Unwritten:
    return sum((part.written for part in stored), Unwritten())


def _log_rows(stage: str, rows: LoadedRows[Any], notes: Sequence[str], stored: Sequence[StoredTrees[Any]]) -> None:
    """Log what was read from each source, and what was noticed while it was rendered."""
    for line in rows.summary():
        logger.info("%s: %s", stage, line)
    for line in rows.warnings():
        logger.warning("%s: %s", stage, line)
    for line in notes:
        logger.info("%s: %s", stage, line)
    for source, part in zip(rows.sources, stored, strict=True):
        _log_counted(f"{stage}: {source.source}", part.counted)
        if part.unfaithful:
            logger.warning("%s: %s: the first row not written whole: %s", stage, source.source, part.unfaithful)


def _refuse_unusable(stage: str, config: DataConfig, stored: Sequence[StoredTrees[Any]], train: Tokenized[Any]) -> None:
    """Raise PlauditError if a template or the tokenizer loses too much of the data, or if no row is left."""
    limit = config.max_bad_fraction
    for source, part in zip((*config.sources, *config.held_out), stored, strict=True):
        refusal = unfaithful_refusal(source.path, part.counted, part.unfaithful, part.row_count, limit)
        if refusal is not None:
            raise PlauditError(f"{stage}: {refusal}")
    if (refusal := _written(stored).refusal(config.sources[0].path, config.max_unknown_fraction)) is not None:
        raise PlauditError(f"{stage}: {refusal}")
    if not len(train.rows):
        counts = [part.counted for part in stored] + [train.counted]
        reasons = "; ".join(f"{number} {what}" for counted in counts for what, number in counted.items())
        raise PlauditError(f"{config.sources[0].path}: no row is left to train on: {reasons}; check the data")


def _log_too_long(place: str, limited: Tokenized[Any]) -> None:
    mostly = limited.left_out > 0.5
    logger.log(
        logging.WARNING if mostly else logging.INFO,
        "%s rows too long: %d dropped, %d truncated; they lose %.1f %% of all tokens%s",
        *(place, limited.dropped, limited.truncated, 100 * limited.left_out),
        "; split long texts into several rows, or raise the limits" if mostly else "",
    )


def _log_counted(place: str, counted: Mapping[str, int]) -> None:
    for what, number in counted.items():
        # Prompts that already contain their format are no fault: one line says how they are read.
        level = logging.INFO if what == BYPASSED else logging.WARNING
        logger.log(level, "%s: %d %s", place, number, what)


def _key_of(context: StageContext[Section], config: DataConfig) -> str:
    """Return the key of the stage's section that holds ``config``."""
    return next((key for key, value in context.config if value is config), "data")


def _warn_of_other_prompts(context: StageContext[Section], record: PromptRecord) -> None:
    """Warn if the stage's model was trained on prompts that were rendered in another way."""
    path = getattr(getattr(context.config, "model", None), "path", None)
    before = read_record(path)
    if before is not None and "text" not in (before.prompts, record.prompts) and str(before) != str(record):
        logger.warning("%s: %s was trained on %s; this stage renders %s", context.name, path, before, record)


def _log_unwritten(stage: str, written: Unwritten) -> None:
    if written.unknown:
        logger.warning("%s: %.2f %% of the tokens are unknown", stage, 100 * written.unknown_fraction)
    if written.dropped:
        logger.warning("%s: the tokenizer drops %.2f %% of the characters", stage, 100 * written.dropped_fraction)
    if written.single_bytes:
        logger.info("%s: %.2f %% of the tokens are single bytes", stage, 100 * written.byte_fraction)


@dataclass(frozen=True)
class Order:
    """The order of examples: every epoch visits each example once, in an order that depends on the epoch's number."""

    examples: int
    batch_size: int
    key: tuple[int | str, ...]

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch; the last one may be smaller."""
        return -(-self.examples // self.batch_size)

    def batch(self, step: int) -> Sequence[int]:
        """Return the examples of a step, steps counted from 1."""
        epoch, batch = divmod(step - 1, self.steps_per_epoch)
        start = batch * self.batch_size
        return shuffled(self.examples, (*self.key, "epoch", epoch))[start : start + self.batch_size]


@dataclass(frozen=True)
class Schedule:
    """The order of a supervised stage's examples, and its number of steps."""

    order: Order
    steps: int

    @classmethod
    def of(cls, context: StageContext[SupervisedStageConfig], examples: int) -> "Schedule":
        """Return the schedule of a stage with so many training examples."""
        config = context.config
        order = Order(examples, config.batch_size, (context.seed, context.name))
        steps = math.ceil(config.epochs * order.steps_per_epoch)
        return cls(order, steps if config.max_steps is None else min(steps, config.max_steps))

    def examples(self) -> Indices:
        """Return which examples the steps read, in ascending order."""
        if self.steps >= self.order.steps_per_epoch:
            return np.arange(self.order.examples)
        batches = [np.asarray(self.order.batch(step)) for step in range(1, self.steps + 1)]
        return np.sort(np.concatenate(batches))


@lru_cache(maxsize=4)
def shuffled(count: int, key: tuple[int | str, ...]) -> "array[int]":
    """Return the numbers below ``count`` in an order that depends on the key."""
    order = array("I", range(count))  # four bytes per example
    python_generator(*key).shuffle(order)
    return order
