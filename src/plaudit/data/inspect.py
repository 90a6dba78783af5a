"""Inspects a file or hub dataset: format, counts, lengths, bad records and samples, as plain data."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.contradictions import Contradictions
from plaudit.data.conversion import Reject
from plaudit.data.formats.columns import carries_meaning
from plaudit.data.formats.recognition import all_formats, closest
from plaudit.data.loading import refusal
from plaudit.data.measures import NO_LIMIT, Lengths, RowMeasures, TokenMeasures, texts_of
from plaudit.data.rows import Row
from plaudit.data.rows.registry import ROW_KINDS
from plaudit.data.selection import Lazy
from plaudit.data.sources import SourceCounts, SourceReading, SourceRows
from plaudit.data.splits import held_out_draws, split_rows
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.data.unwritten import Unwritten

_ROWS_AT_ONCE = 1024
_MOST_REJECTS = 100

Progress = Callable[[int, float | None], None]
"""Called now and then with the number of rows so far and the fraction of the source that has been read, if known."""


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
    ``nearest`` names other formats if columns that look like a judgement or a response were not read. ``rejects`` are
    the first bad records, equal ones once. ``first`` (the first row with its tokens), ``counted`` (what else was
    noticed), ``unfaithful`` (see ``Renderer``) and ``written`` are None without a tokenizer.
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
    first: TokenizedRow[Row] | None = None
    counted: dict[str, int] | None = None
    unfaithful: str = ""
    written: Unwritten | None = None

    @property
    def warnings(self) -> list[str]:
        """What is suspicious about the rows."""
        contradiction = self.contradictions.warning(ROW_KINDS[self.kind]) if self.contradictions else None
        return [*self.counts.warnings, *filter(None, (contradiction, self.split_note))]


def inspect(
    source: SourceConfig,
    kind: type[Row] | None = None,
    tokenizer: Any = None,
    context_length: int | None = None,
    samples: int = 3,
    progress: Progress = lambda rows, fraction: None,
) -> Inspection:
    """Read a source once and measure it; ``kind`` None means the native kind of its format.

    ``context_length`` None means the tokenizer's maximum length. Samples are spread about evenly over the different
    rows. Memory grows by about 40 bytes a row. A source with too few prompts to hold some out is read once more. Raises
    PlauditError for a source that cannot be read; bad records are counted, and the first ones returned.
    """
    reading: SourceReading[Row] = SourceReading(source, kind, _ROWS_AT_ONCE)
    measures, limits = RowMeasures(samples), DataConfig(sources=[source])
    tokens = TokenMeasures(tokenizer, context_length or _longest_input(tokenizer)) if tokenizer is not None else None
    rejects: dict[tuple[str, str], Reject] = {}
    rows = iter(reading)
    while part := list(islice(rows, _ROWS_AT_ONCE)):
        measures.add(part)
        if tokens is not None:
            tokens.add(part)
        _keep(reading.new_rejects(), rejects)
        progress(measures.rows, reading.fraction)
    _keep(reading.new_rejects(), rejects)
    counts, shown_rejects = reading.counts(), [*rejects.values()]
    read = SourceRows[Row]([], shown_rejects, counts, reading.row_format, reading.kind)
    refused = refusal(read, limits.max_bad_fraction)
    if tokens is not None:
        refused = refused or tokens.refusal(source.path, limits)
    prompts = measures.different_prompts()
    duplicates, shown = measures.duplicates_and_samples(samples)
    return Inspection(
        path=source.path,
        format=read.row_format.name,
        kind=read.kind.kind,
        kinds=read.row_format.kind_names,
        counts=counts,
        prompts=prompts,
        duplicates=duplicates,
        contradictions=measures.contradictions(),
        identical_responses=counts.bad.get("identical responses", 0),
        mismatched_prompts=counts.bad.get("mismatched prompts", 0),
        empty_texts=sum(number for reason, number in counts.bad.items() if reason.startswith("empty ")),
        lengths=measures.lengths.summary() | (tokens.lengths.summary() if tokens else {}),
        overlong=tokens.overlong if tokens and tokens.context_length else None,
        context_length=tokens.context_length if tokens else context_length,
        samples=shown,
        rejects=shown_rejects,
        refusal=refused,
        max_bad_fraction=limits.max_bad_fraction,
        split_note=_split_note(source, read.kind, measures) if limits.held_out_fraction * prompts < 1 else None,
        nearest=_nearest(read),
        first=tokens.first if tokens else None,
        counted=tokens.counted if tokens else None,
        unfaithful=tokens.unfaithful if tokens else "",
        written=tokens.written if tokens else None,
    )


def _keep(found: Sequence[Reject], rejects: dict[tuple[str, str], Reject]) -> None:
    """Keep the first bad records, equal ones once."""
    for reject in found:
        if len(rejects) < _MOST_REJECTS:
            rejects.setdefault((reject.reason, reject.excerpt), reject)


def _nearest(read: SourceRows[Row]) -> str | None:
    """Return the formats that columns which were not read may belong to."""
    unread = [column for column in read.counts.unread if carries_meaning(column, None)]
    if not read.row_format.fallback or not unread:
        return None
    return closest([each for each in all_formats() if each is not read.row_format], [*unread, read.row_format.name])


class _ReadAgain(Lazy[Row]):
    """The rows of a source, which is read again whenever they are iterated over."""

    def __init__(self, source: SourceConfig, kind: type[Row], number: int) -> None:
        self._source, self._kind, self._number = source, kind, number

    def __len__(self) -> int:
        return self._number

    def __iter__(self) -> Iterator[Row]:
        return iter(SourceReading(self._source, self._kind))

    def item(self, index: int) -> Row:
        """Return a row, after reading those before it."""
        return next(islice(self, index, None))


def _split_note(source: SourceConfig, kind: type[Row], measures: RowMeasures) -> str | None:
    """Return what a stage would say about the held-out rows of a source with few prompts."""
    rows, fraction = _ReadAgain(source, kind, measures.rows), DataConfig(sources=[source]).held_out_fraction
    return split_rows(rows, measures.prompts, measures.contents, held_out_draws(rows, 0), fraction, 0).note


def _longest_input(tokenizer: Any) -> int | None:
    return tokenizer.model_max_length if tokenizer.model_max_length < NO_LIMIT else None


def as_json(found: Inspection) -> dict[str, Any]:
    """Return everything that was found as JSON values; what does not apply is null."""
    counts = found.counts
    return {
        "source": found.path,
        "format": found.format,
        "recognized_by": counts.reason,
        "row_kinds": found.kinds,
        "read_as": found.kind,
        "records": counts.records,
        "rows": counts.rows,
        "different_prompts": found.prompts,
        "duplicate_rows": found.duplicates,
        "contradictory_judgements": found.contradictions._asdict() if found.contradictions else None,
        "identical_responses": found.identical_responses,
        "mismatched_prompts": found.mismatched_prompts,
        "empty_texts": found.empty_texts,
        "context_length": found.context_length,
        "longer_than_context": found.overlong,
        "tokens": asdict(found.written) if found.written else None,
        "noticed": found.counted,
        "first_row_not_written_whole": found.unfaithful or None,
        "bad_records": counts.bad_records,
        "max_bad_fraction": found.max_bad_fraction,
        "bad": counts.bad,
        "unused": counts.unused,
        "unread_columns": counts.unread,
        "nearest_formats": found.nearest,
        "better_responses": counts.verdicts,
        "warnings": found.warnings,
        "lengths": {what: asdict(lengths) for what, lengths in found.lengths.items()},
        "rejects": [asdict(reject) for reject in found.rejects],
        "samples": [
            {"origin": asdict(row.origin), "texts": list(texts_of(row)), "judgements": row.judgements()}
            for row in found.samples
        ],
        "refusal": found.refusal,
    }
