"""Loads a stage's sources as training and held-out rows. No prompt is in both, and every dropped row is counted."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.formats.columns import carries_meaning, looks_like
from plaudit.data.rows import Row
from plaudit.data.sources import SourceCounts, SourceRows, read_source
from plaudit.data.splits import Split, prompt_key, repeated, split_rows
from plaudit.errors import PlauditError

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class LoadedRows(Generic[R]):
    """Training rows (repeated by weight), held-out rows (never repeated), and the counts of every source.

    ``held_out`` may be empty if the sources are small. ``removed`` counts the training rows that were removed because
    their prompt is in a held-out source. ``note`` says what was held out if it was not a fraction of the prompts.
    """

    train: list[R]
    held_out: list[R]
    counts: list[SourceCounts]
    removed: int = 0
    note: str | None = None

    def summary(self) -> list[str]:
        """Return what was read from every source, for logs."""
        lines = [line for count in self.counts for line in _described(count)]
        return lines + ([f"{self.removed} training rows removed: prompt is held out"] if self.removed else [])

    def warnings(self) -> list[str]:
        """Return what is suspicious about the sources and the split, for logs."""
        found = [f"{count.source}: {warning}" for count in self.counts for warning in count.warnings]
        return found + ([self.note] if self.note else [])


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
        keys = {prompt_key(row) for row in held_out}
        split = Split([prompt_key(row) in keys for row in rows])
    else:
        split = split_rows(rows, config.held_out_fraction, seed)
        held_out = [row for row, out in zip(rows, split.held_out, strict=True) if out]
    train = list(_training_rows(config.sources, sources, split, seed))
    if not train and (held_out_sources or config.held_out_fraction < 1):
        raise PlauditError(f"{_names(config.sources)}: all rows are held out; add rows or lower held_out_fraction")
    removed = sum(split.held_out) if held_out_sources else 0
    return LoadedRows(train, held_out, [read.counts for read in (*sources, *held_out_sources)], removed, split.note)


def _training_rows(
    configs: Sequence[SourceConfig], sources: Sequence[SourceRows[R]], split: Split, seed: int
) -> Iterator[R]:
    held_out = iter(split.held_out)
    for config, read in zip(configs, sources, strict=True):
        yield from repeated([row for row in read.rows if not next(held_out)], config.weight, seed)


def _check(read: SourceRows[Any], max_bad_fraction: float, rejects: Path | None) -> None:
    if (reason := refusal(read, max_bad_fraction, rejects)) is not None:
        raise PlauditError(reason)


def refusal(read: SourceRows[Any], max_bad_fraction: float, rejects: Path | None = None) -> str | None:
    """Return why a stage would not train on a source, with the remedy; None if it would."""
    counts = read.counts
    if counts.bad_records > max_bad_fraction * counts.records:
        reasons = ", ".join(f"{number} {reason}" for reason, number in counts.bad.items())
        where = f"; all are in {rejects}" if rejects else ""
        return (
            f"{counts.source} line {read.rejects[0].origin.line}: {read.rejects[0].reason}; {counts.bad_records} of "
            f"{counts.records} records are bad ({reasons}), more than max_bad_fraction={max_bad_fraction:g}; fix them "
            f"or raise it{where}"
        )
    unread = [column for column in counts.unread if carries_meaning(column, read.kind)]
    if unread:
        described = ", ".join(_unread(counts, column) for column in unread)
        return (
            f"{counts.source}: format {counts.format} does not read {described}; choose a format that does, rename it "
            f"with `columns`, or leave it out with `ignore_columns: {json.dumps(unread, ensure_ascii=False)}` for this "
            "source"
        )
    if not read.rows:
        return f"{counts.source}: contains no {read.kind.kind} rows; check the file and its format"
    return None


def _unread(counts: SourceCounts, column: str) -> str:
    example = counts.unread_examples[column]
    return f"{column}, which looks like {looks_like(column)} (in {counts.unread[column]} records, such as {example})"


def _described(count: SourceCounts) -> list[str]:
    """Return what was read from a source, which columns were not, and what was taken as better."""
    lines = [
        f"{count.source} ({count.format}): {count.records} records, {count.rows} rows"
        + "".join(f", {number} bad: {reason}" for reason, number in count.bad.items())
        + "".join(f", {number} unused: {reason}" for reason, number in count.unused.items())
    ]
    if count.reason:
        lines.append(f"{count.source}: format {count.format} by {count.reason}")
    if count.unread:
        lines.append(f"{count.source}: columns not read: {', '.join(count.unread)}")
    return lines + [f"{count.source} {verdict}" for verdict in count.verdicts]


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
