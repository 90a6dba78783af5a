"""Inspects a file or hub dataset: format, counts, lengths, bad records and samples, as plain data."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.contradictions import Contradictions, contradictions, judgement_keys
from plaudit.data.conversion import Reject
from plaudit.data.formats.columns import carries_meaning
from plaudit.data.formats.recognition import all_formats, closest
from plaudit.data.loading import refusal
from plaudit.data.rows import Row
from plaudit.data.sources import SourceCounts, SourceRows, read_source
from plaudit.data.splits import held_out_draws, keys_of, prompt_key, row_content, split_rows
from plaudit.data.templates import human_assistant_text
from plaudit.data.tokenization import Tokenized, tokenize_unchecked
from plaudit.data.unwritten import Unwritten, unwritten

# Tokenizers without a maximum length report a number of at least this size.
_NO_LIMIT = 10**9


@dataclass(frozen=True)
class Lengths:
    """Minimum, median, mean, 95th percentile and maximum of lengths."""

    shortest: int
    median: int
    mean: float
    percentile_95: int
    longest: int


@dataclass(frozen=True)
class Inspection:
    """The content of a source.

    ``kind`` is the kind of row that was read; ``kinds`` are all kinds that the format supports. ``duplicates`` counts
    rows that equal an earlier row; ``prompts`` counts distinct prompts; ``contradictions`` counts responses, or pairs
    of responses, that are judged in both ways, and is None for rows without judgements. ``identical_responses``,
    ``mismatched_prompts`` and ``empty_texts`` count bad records. ``lengths`` are in characters and, with a tokenizer,
    in tokens; its keys name what was measured ("prompt, characters"). ``overlong`` counts rows whose prompt and longest
    response together exceed ``context_length`` tokens; both are None without a tokenizer or a known limit.

    ``refusal`` says why a stage with the default limits would not train on the source; None if it would.
    ``max_bad_fraction`` is its limit of bad records, and ``split_note`` what it would say about its held-out rows.
    ``nearest`` names other formats if columns that look like a judgement or a response were not read. ``tokenized`` and
    ``written`` are None without a tokenizer.
    """

    path: str
    format: str
    kind: str
    kinds: tuple[str, ...]
    counts: SourceCounts
    prompts: int
    duplicates: int
    contradictions: Contradictions | None
    identical_responses: int
    mismatched_prompts: int
    empty_texts: int
    lengths: dict[str, Lengths]
    overlong: int | None
    context_length: int | None
    samples: list[Row]
    rejects: list[Reject]
    refusal: str | None
    max_bad_fraction: float
    split_note: str | None
    nearest: str | None
    tokenized: Tokenized[Row] | None = None
    written: Unwritten | None = None


def inspect(
    source: SourceConfig,
    kind: type[Row] | None = None,
    tokenizer: Any = None,
    context_length: int | None = None,
    samples: int = 3,
) -> Inspection:
    """Read a source and measure it; ``kind`` None means the native kind of its format.

    ``context_length`` None means the tokenizer's maximum length. Samples are spread evenly over the different
    rows. Raises PlauditError for a source that cannot be read; bad records are counted and returned, however many.
    """
    read: SourceRows[Row] = read_source(source, kind)
    rows, bad, limits = read.rows, read.counts.bad, DataConfig(sources=[source])
    lengths = _character_lengths(rows)
    refused = refusal(read, limits.max_bad_fraction)
    overlong = tokenized = written = None
    if tokenizer is not None:
        context_length = context_length or _longest_input(tokenizer)
        tokenized = _tokenized(rows, tokenizer)
        trees = tokenized.trees
        written = unwritten(tokenized.rows, tokenizer)
        refused = refused or tokenized.refusal or written.refusal(source.path, limits.max_unknown_fraction)
        lengths |= _token_lengths(trees)
        overlong = _count_overlong(trees, context_length) if context_length else None
    different = {row_content(row): row for row in reversed(rows)}  # the first one of equal rows
    return Inspection(
        path=source.path,
        format=read.row_format.name,
        kind=read.kind.kind,
        kinds=read.row_format.kind_names,
        counts=read.counts,
        prompts=len({prompt_key(row) for row in rows}),
        duplicates=len(rows) - len(different),
        contradictions=_contradictions(rows),
        identical_responses=bad.get("identical responses", 0),
        mismatched_prompts=bad.get("mismatched prompts", 0),
        empty_texts=sum(number for reason, number in bad.items() if reason.startswith("empty ")),
        lengths=lengths,
        overlong=overlong,
        context_length=context_length,
        samples=_spread([*different.values()][::-1], samples),
        rejects=read.rejects,
        refusal=refused,
        max_bad_fraction=limits.max_bad_fraction,
        split_note=_split_note(rows, limits.held_out_fraction),
        nearest=_nearest(read),
        tokenized=tokenized,
        written=written,
    )


def _nearest(read: SourceRows[Row]) -> str | None:
    """Return the formats that columns which were not read may belong to."""
    unread = [column for column in read.counts.unread if carries_meaning(column, None)]
    if not read.row_format.fallback or not unread:
        return None
    return closest([each for each in all_formats() if each is not read.row_format], [*unread, read.row_format.name])


def _split_note(rows: Sequence[Row], fraction: float) -> str | None:
    prompts, contents = keys_of(map(prompt_key, rows)), keys_of(map(row_content, rows))
    return split_rows(rows, prompts, contents, held_out_draws(rows, 0), fraction, 0).note


def _contradictions(rows: Sequence[Row]) -> Contradictions | None:
    keys = chain.from_iterable(judgement_keys(row, prompt_key(row)) for row in rows)
    found = contradictions(np.fromiter(keys, np.uint64))
    return found if found.judged else None


def _spread(rows: Sequence[Row], number: int) -> list[Row]:
    number = min(number, len(rows))
    return [rows[index * len(rows) // number] for index in range(number)]


def texts_of(row: Row) -> Iterator[tuple[str, str]]:
    """Yield every text of a row with its name: "text", or "prompt" and "response"."""
    if row.prompt is not None:
        yield "prompt", row.prompt if isinstance(row.prompt, str) else human_assistant_text(row.prompt).strip()
    yield from (("text" if row.prompt is None else "response", response) for response in row.responses)


def _character_lengths(rows: Sequence[Row]) -> dict[str, Lengths]:
    measured: dict[str, list[int]] = {}
    for row in rows:
        for what, text in texts_of(row):
            measured.setdefault(f"{what}, characters", []).append(len(text))
    return {what: _summary(values) for what, values in measured.items()}


def _tokenized(rows: Sequence[Row], tokenizer: Any) -> Tokenized[Row]:
    config = DataConfig(sources=[SourceConfig(path="-")])
    return tokenize_unchecked(rows, tokenizer, config, context_length=_NO_LIMIT) if rows else Tokenized([])


def _token_lengths(trees: Sequence[PromptTree]) -> dict[str, Lengths]:
    responses = [len(response) for tree in trees for response in tree.responses]
    measured = {"prompt, tokens": [len(tree.prompt) for tree in trees], "response, tokens": responses}
    return {what: _summary(values) for what, values in measured.items() if values}


def _count_overlong(trees: Sequence[PromptTree], context_length: int) -> int:
    return sum(len(tree.prompt) + max(map(len, tree.responses), default=0) > context_length for tree in trees)


def _longest_input(tokenizer: Any) -> int | None:
    return tokenizer.model_max_length if tokenizer.model_max_length < _NO_LIMIT else None


def _summary(values: Sequence[int]) -> Lengths:
    ordered = sorted(values)
    last = len(ordered) - 1
    return Lengths(
        ordered[0], ordered[last // 2], sum(ordered) / len(ordered), ordered[round(0.95 * last)], ordered[-1]
    )
