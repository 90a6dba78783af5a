"""Loads a stage's sources as training and held-out rows. No prompt is in both, and every dropped row is counted."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.contradictions import contradictions
from plaudit.data.conversion import Reject
from plaudit.data.formats.columns import belongs_to_prompt, carries_meaning, looks_like
from plaudit.data.formats.recognition import spaced
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import PromptRow, Row
from plaudit.data.rows.base import PromptKind
from plaudit.data.selection import Indices, Joined, Selected
from plaudit.data.sources import SourceCounts
from plaudit.data.splits import Keys, Mask, groups_of, repeated, split_rows
from plaudit.data.store.cache import DataCache
from plaudit.data.store.columns import joined
from plaudit.data.store.rows import StoredRows
from plaudit.errors import PlauditError

R = TypeVar("R", bound=Row)


_WORDS_OF_A_SENTENCE = 3


@dataclass(frozen=True)
class LoadedRows(Generic[R]):
    """The rows of a stage's sources, and which are trained on and held out.

    ``train_indices`` and ``held_out_indices`` are indices of ``rows``, which are the rows of all ``sources`` one after
    another: training rows are repeated by weight, held-out rows never. There may be no held-out rows if the sources are
    small. ``removed`` counts the training rows that were removed because their prompt is in a held-out source. ``note``
    says what was held out if it was not a fraction of the prompts.
    """

    sources: Sequence[StoredRows[R]]
    train_indices: Indices
    held_out_indices: Indices
    removed: int = 0
    note: str | None = None

    @property
    def rows(self) -> Joined[R]:
        """The rows of all sources."""
        return Joined(self.sources)

    @property
    def train(self) -> Selected[R]:
        """The training rows."""
        return Selected(self.rows, self.train_indices)

    @property
    def held_out(self) -> Selected[R]:
        """The held-out rows."""
        return Selected(self.rows, self.held_out_indices)

    @property
    def prompt_kinds(self) -> Counter[PromptKind]:
        """The number of rows of all sources by the kind of their prompt."""
        return sum((source.prompt_kinds for source in self.sources), Counter())

    @property
    def different_prompts(self) -> int:
        """The number of different prompts in training and held-out rows."""
        used = np.union1d(self.train_indices, self.held_out_indices)
        return int(groups_of(self.prompts[used]).max(initial=-1)) + 1

    @property
    def prompts(self) -> Keys:
        """The keys of the prompts of all rows."""
        return joined([source.prompts for source in self.sources])

    @property
    def counts(self) -> list[SourceCounts]:
        """The counts of every source."""
        return [source.counts for source in self.sources]

    def summary(self) -> list[str]:
        """Return what was read from every source, for logs."""
        lines = [line for count in self.counts for line in _described(count)]
        return lines + ([f"{self.removed} training rows removed: prompt is held out"] if self.removed else [])

    def warnings(self) -> list[str]:
        """Return what is suspicious about the sources, their judgements and the split, for logs."""
        found = [f"{count.source}: {warning}" for count in self.counts for warning in count.warnings]
        keys = np.concatenate([source.judgements for source in self.sources])
        contradiction = contradictions(keys).warning(self.sources[0].kind)
        return [*found, *filter(None, (contradiction, self.note))]


def load_rows(config: DataConfig, kind: type[R], rejects: Path | None, seed: int, cache: DataCache) -> LoadedRows[R]:
    """Read the sources and split them by prompt.

    ``rejects`` is the JSON-lines file that bad rows are written to, with source, line, reason and excerpt. ``seed``
    should be the run's seed, so that every stage holds out the same prompts. Raises PlauditError if a source cannot be
    read, if there are too many bad rows, or if no row is left.
    """
    sources = [cache.rows(source, kind, seed) for source in config.sources]
    held_out_sources = [cache.rows(source, kind, seed) for source in config.held_out]
    everything = [*sources, *held_out_sources]
    if rejects is not None:
        _write_rejects(rejects, everything)
    for read in everything:
        _check(read, config.max_bad_fraction, rejects)
    key = [
        [(read.folder.name, source.weight) for read, source in zip(sources, config.sources, strict=True)],
        [read.folder.name for read in held_out_sources],
        config.held_out_fraction,
        seed,
    ]
    train, held_out, facts = cache.split(key, lambda: _split(config, sources, held_out_sources, seed))
    if not len(train) and (held_out_sources or config.held_out_fraction < 1):
        raise PlauditError(f"{_names(config.sources)}: all rows are held out; add rows or lower held_out_fraction")
    return LoadedRows(everything, train, held_out, facts["removed"], facts["note"])


def _split(
    config: DataConfig, sources: Sequence[StoredRows[R]], held_out_sources: Sequence[StoredRows[R]], seed: int
) -> tuple[Indices, Indices, dict[str, Any]]:
    """Return the indices of the training rows and of the held-out ones, and the other fields of ``LoadedRows``."""
    rows, note, removed = Joined(sources), None, 0
    if held_out_sources:
        groups = groups_of(np.concatenate([read.prompts for read in (*sources, *held_out_sources)]))
        mask = np.isin(groups[: len(rows)], groups[len(rows) :])
        removed, held_out = int(mask.sum()), np.arange(len(rows), len(groups), dtype=np.int64)
    else:
        keys, contents, draws = (
            joined(parts)
            for parts in zip(*((read.prompts, read.contents, read.draws(seed)) for read in sources), strict=True)
        )
        mask, note = split_rows(rows, keys, contents, draws, config.held_out_fraction, seed)
        held_out = np.flatnonzero(mask)
    train = _training_indices(config.sources, sources, mask, seed)
    return train, held_out, {"removed": removed, "note": note}


def _training_indices(
    configs: Sequence[SourceConfig], sources: Sequence[StoredRows[R]], held_out: Mask, seed: int
) -> Indices:
    start, found = 0, []
    for config, read in zip(configs, sources, strict=True):
        kept = np.flatnonzero(~held_out[start : start + len(read)])
        if config.weight != 1:
            kept = kept[repeated(Selected(read, kept), read.contents[kept], config.weight, seed)]
        found.append(kept + start if start else kept)
        start += len(read)
    return joined(found)


def _check(read: StoredRows[Any], max_bad_fraction: float, rejects: Path | None) -> None:
    reason = refusal(read, max_bad_fraction, rejects)
    if reason is not None:
        raise PlauditError(reason)


class ReadSource(Protocol):
    """A source that has been read, in memory or on disk."""

    @property
    def counts(self) -> SourceCounts:
        """What became of its records."""
        ...

    @property
    def kind(self) -> type[Row]:
        """The kind of its rows."""
        ...

    @property
    def rejects(self) -> Iterable[Reject]:
        """Its bad records."""
        ...


def refusal(read: ReadSource, max_bad_fraction: float, rejects: Path | None = None) -> str | None:
    """Return why a stage would not train on a source, with the remedy; None if it would.

    ``rejects`` is the file that its bad records are written to.
    """
    counts = read.counts
    if counts.bad_records > max_bad_fraction * counts.records:
        first = next(iter(read.rejects))
        reasons = ", ".join(f"{number} {reason}" for reason, number in counts.bad.items())
        where = f"; all are in {rejects}" if rejects else ""
        if read.kind is PromptRow and counts.format != "prompt" and "prompt" in FORMATS[counts.format].columns:
            where = f", or read the prompts alone with `format: prompt`{where}"
        return (
            f"{first.origin.source} line {first.origin.line}: {first.reason}; {counts.bad_records} of {counts.records} "
            f"records are bad ({reasons}), more than max_bad_fraction={max_bad_fraction:g}; fix them or raise it{where}"
        )
    unread = [
        column
        for column in counts.unread
        if (carries_meaning(column, read.kind) and not _is_flag(counts, column)) or _may_be_prompt(counts, column)
    ]
    if unread:
        described = ", ".join(_unread(counts, column) for column in unread)
        nested = all(any(column.startswith(f"{other}.") for other in counts.unread) for column in unread)
        move = "make it a column" if nested else "rename it with `columns`"
        return (
            f"{counts.source}: format {counts.format} does not read {described}; choose a format that does, {move}, "
            f"or leave it out with `ignore_columns: {json.dumps(unread, ensure_ascii=False)}` for this source"
        )
    if not counts.rows:
        return f"{counts.source}: contains no {read.kind.kind} rows; check the file and its format"
    return None


def _is_flag(counts: SourceCounts, column: str) -> bool:
    """Return whether a column named like a part of the prompt, such as ``custom_instruction``, only says yes or no."""
    return counts.unread_examples[column].lower() in ("true", "false") and belongs_to_prompt(column)


def _may_be_prompt(counts: SourceCounts, column: str) -> bool:
    """Return whether a column that is not read holds sentences, in a format that has no column for the prompt."""
    words = counts.unread_examples[column].split()
    return FORMATS[counts.format].derives_prompt and len(words) >= _WORDS_OF_A_SENTENCE


def _unread(counts: SourceCounts, column: str) -> str:
    example = counts.unread_examples[column]
    what = "may be the prompt" if _may_be_prompt(counts, column) else f"looks like {looks_like(column)}"
    return f"{spaced(column)}, which {what} (in {counts.unread[column]} records, such as {example})"


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
        lines.append(f"{count.source}: {count.unread_title}: {', '.join(count.unread)}")
    return lines + [f"{count.source} {verdict}" for verdict in count.verdicts]


def _write_rejects(path: Path, sources: Sequence[StoredRows[Any]]) -> None:
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
