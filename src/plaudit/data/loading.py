"""Loads a stage's sources as training and held-out rows. No prompt is in both, and every dropped row is counted."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.rows import Row
from plaudit.data.sources import SourceCounts, SourceRows, read_source
from plaudit.data.splits import is_held_out, prompt_key, repeated
from plaudit.errors import PlauditError

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class LoadedRows(Generic[R]):
    """Training rows (repeated by weight), held-out rows (never repeated), and the counts of every source.

    ``held_out`` may be empty if the sources are small. ``removed`` counts the training rows that were removed because
    their prompt is in a held-out source.
    """

    train: list[R]
    held_out: list[R]
    counts: list[SourceCounts]
    removed: int = 0

    def summary(self) -> list[str]:
        """Return a line per source, for logs."""
        lines = [
            f"{count.source} ({count.format}): {count.records} records, {count.rows} rows"
            + "".join(f", {number} bad: {reason}" for reason, number in count.bad.items())
            + "".join(f", {number} unused: {reason}" for reason, number in count.unused.items())
            for count in self.counts
        ]
        return lines + ([f"{self.removed} training rows removed: prompt is held out"] if self.removed else [])


def load_rows(config: DataConfig, kind: type[R], rejects: Path | None, seed: int) -> LoadedRows[R]:
    """Read the sources and split them by prompt.

    ``rejects`` is the JSON-lines file that bad rows are written to, with source, line, reason and excerpt. ``seed``
    should be the run's seed, so that every stage holds out the same prompts. Raises PlauditError if a source cannot be
    read, if there are too many bad rows, or if no row is left.
    """
    sources = [read_source(source, kind) for source in config.sources]
    held_out_sources = [read_source(source, kind) for source in config.held_out]
    if rejects is not None:
        _write_rejects(rejects, [*sources, *held_out_sources])
    for read in (*sources, *held_out_sources):
        _check(read, config.max_bad_fraction, rejects)
    rows = [row for read in sources for row in read.rows]
    if held_out_sources:
        held_out = [row for read in held_out_sources for row in read.rows]
    else:
        held_out = [row for row in rows if is_held_out(row, config.held_out_fraction, seed)]
    keys = {prompt_key(row) for row in held_out}
    train = _training_rows(config.sources, sources, keys, seed)
    if not train and (held_out_sources or config.held_out_fraction < 1):
        raise PlauditError(f"{_names(config.sources)}: all rows are held out; add rows or lower held_out_fraction")
    removed = sum(prompt_key(row) in keys for row in rows) if held_out_sources else 0
    return LoadedRows(train, held_out, [read.counts for read in (*sources, *held_out_sources)], removed)


def _training_rows(
    configs: Sequence[SourceConfig], sources: Sequence[SourceRows[R]], held_out: set[str], seed: int
) -> list[R]:
    train: list[R] = []
    for config, read in zip(configs, sources, strict=True):
        kept = [row for row in read.rows if prompt_key(row) not in held_out]
        train.extend(repeated(kept, config.weight, seed))
    return train


def _check(read: SourceRows[Any], max_bad_fraction: float, rejects: Path | None) -> None:
    counts = read.counts
    if counts.bad_records > max_bad_fraction * counts.records:
        reasons = ", ".join(f"{number} {reason}" for reason, number in counts.bad.items())
        where = f"; all are in {rejects}" if rejects else ""
        raise PlauditError(
            f"{counts.source} line {read.rejects[0].origin.line}: {read.rejects[0].reason}; {counts.bad_records} of "
            f"{counts.records} records are bad ({reasons}), more than max_bad_fraction={max_bad_fraction:g}; fix them "
            f"or raise it{where}"
        )
    if not read.rows:
        raise PlauditError(f"{counts.source}: contains no {read.kind.kind} rows; check the file and its format")


def _write_rejects(path: Path, sources: Sequence[SourceRows[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as file:
        for reject in (reject for read in sources for reject in read.rejects):
            entry = {
                "source": reject.origin.source,
                "line": reject.origin.line,
                "reason": reject.reason,
                "record": reject.excerpt,
            }
            file.write(json.dumps(entry) + "\n")


def _names(sources: Sequence[SourceConfig]) -> str:
    return ", ".join(source.path for source in sources)
