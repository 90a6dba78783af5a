"""Loads the examples of a stage (reads, splits, tokenizes and reports them) and defines their order in training."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Generic, TypeVar, cast

from plaudit.batching.trees import Example
from plaudit.config.schema import DataConfig, Section
from plaudit.data.loading import load_rows
from plaudit.data.prompt_record import PromptRecord, read_record, record_of, remember
from plaudit.data.rows import ResponseRow, Row
from plaudit.data.templates import BYPASSED, check_prompt_template
from plaudit.data.token_cache import FOLDER, CachingTokenizer
from plaudit.data.tokenization import Tokenized, TokenizedRow, tokenize_rows
from plaudit.data.unwritten import Unwritten, unwritten
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

    train: list[Example[T]]
    held_out: list[Example[T]]


@dataclass(frozen=True)
class StageRows(Generic[R]):
    """A stage's tokenized training and held-out rows."""

    train: list[TokenizedRow[R]]
    held_out: list[TokenizedRow[R]]

    def examples(self, target: Callable[[R], T]) -> Examples[T]:
        """Return the rows as examples, with the target ``target(row)``."""
        train, held_out = ([Example(row.tree, target(row.row)) for row in part] for part in (self.train, self.held_out))
        return Examples(train, held_out)


def load_stage_rows(
    context: StageContext[Section],
    config: DataConfig,
    kind: type[R],
    loaded: LoadedModel,
    longest: int | None = None,
    learn_earlier_turns: bool = True,
) -> StageRows[R]:
    """Read a stage's data, write bad records to a separate file, and log what was dropped or truncated.

    ``longest``: tokens of the longest row that is kept; None for the context of the model. ``learn_earlier_turns``:
    whether the assistant's turns before the response are learned where rows allow it. Raises PlauditError if the
    tokenizer cannot write too large a part of the data.
    """
    session = context.session
    rejects = context.directory.create().folder / REJECTS if session.is_main else None
    rows = load_rows(config, kind, rejects, context.seed)
    check_prompt_template([*rows.train, *rows.held_out], config, f"{context.name}.{_key_of(context, config)}")
    length = loaded.context_length if longest is None else longest
    tokenizer = CachingTokenizer(loaded.tokenizer, Path(session.recipe.output) / FOLDER)
    given, given_held_out = rows.train, rows.held_out
    if not learn_earlier_turns:
        given, given_held_out = list(map(_final_turn_only, given)), list(map(_final_turn_only, given_held_out))
    train = tokenize_rows(given, tokenizer, config, length)
    held_out = tokenize_rows(given_held_out, tokenizer, config, length) if given_held_out else Tokenized([])
    record = record_of(rows.train, loaded.tokenizer, config)
    remember(loaded.tokenizer, record)
    written = unwritten([*train.rows, *held_out.rows], loaded.tokenizer)
    if session.is_main:
        for line in rows.summary():
            logger.info("%s: %s", context.name, line)
        for line in rows.warnings():
            logger.warning("%s: %s", context.name, line)
        context.directory.write_notes([rows.note] if rows.note else [])
        for name, part in (("training", train), ("held-out", held_out)):
            if part.dropped or part.truncated:
                counted = f"{part.dropped} dropped, {part.truncated} truncated"
                logger.info("%s: %s rows too long: %s", context.name, name, counted)
            for what, number in part.counted.items():
                # Prompts that already contain their format are no fault: one line says how they are read.
                level = logging.INFO if what == BYPASSED else logging.WARNING
                logger.log(level, "%s: %s: %d %s", context.name, name, number, what)
        _warn_of_other_prompts(context, record)
        _log_unwritten(context.name, written)
    if (refusal := written.refusal(config.sources[0].path, config.max_unknown_fraction)) is not None:
        raise PlauditError(f"{context.name}: {refusal}")
    return StageRows(train.rows, held_out.rows)


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


def _final_turn_only(row: R) -> R:
    """Return a row of which only the response is learned."""
    if not isinstance(row, ResponseRow) or isinstance(row.prompt, str):
        return row
    return cast(R, replace(row, prompt=tuple(replace(turn, learned=False) for turn in row.prompt)))


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
        return _shuffled(self.examples, (*self.key, "epoch", epoch))[batch * self.batch_size :][: self.batch_size]


@lru_cache(maxsize=4)
def _shuffled(count: int, key: tuple[int | str, ...]) -> tuple[int, ...]:
    order = list(range(count))
    python_generator(*key).shuffle(order)
    return tuple(order)
