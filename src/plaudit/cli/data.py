"""``plaudit data``: inspect data before training on it."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plaudit import log
from plaudit.cli.console import with_output_options
from plaudit.errors import PlauditError
from plaudit.log import new_console, visible

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from plaudit.data.inspect import Inspection, Progress
    from plaudit.data.tokenized_row import TokenizedRow

_SHOWN_REJECTS = 5
_SHOWN_CHARACTERS = 300

app = typer.Typer(help="Inspect data before training.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Inspect data before training."""


@app.command(epilog="Example: plaudit data inspect preferences.jsonl --tokenizer gpt2")
@with_output_options
def inspect(
    file: Annotated[str, typer.Argument(help="File, folder of files, pattern (data/*.jsonl) or hub dataset.")],
    row_format: Annotated[
        str, typer.Option("--format", help="Row format; auto recognizes it by the columns.")
    ] = "auto",
    kind: Annotated[
        str | None,
        typer.Option(help="Kind of row to read: text, response, ranking, labeled or prompt.", show_default=False),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Tokenizer (folder or hub name) for lengths in tokens.", show_default=False)
    ] = None,
    context_length: Annotated[
        int | None, typer.Option(help="Context length in tokens; default: the tokenizer's.", min=1, show_default=False)
    ] = None,
    show_mask: Annotated[
        bool,
        typer.Option("--show-mask", help="Show the tokens of the first row, what is learned and where it ends."),
    ] = False,
    plugin: Annotated[
        list[str] | None,
        typer.Option(metavar="MODULE", help="Module that adds formats or kinds of rows; may be repeated."),
    ] = None,
    ignore_column: Annotated[
        list[str] | None, typer.Option(help="Column that is not read; may be repeated.", show_default=False)
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Read only this many rows, from the beginning.", min=1, show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(help="Number of rows to show.", min=0)] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as one JSON object.")] = False,
    subset: Annotated[str | None, typer.Option(help="Subset of a hub dataset.", show_default=False)] = None,
    split: Annotated[
        str | None, typer.Option(help="Split of a hub dataset; default: train.", show_default=False)
    ] = None,
    revision: Annotated[
        str | None, typer.Option(help="Commit, branch or tag of a hub dataset.", show_default=False)
    ] = None,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Read a hub dataset row by row instead of downloading it.")
    ] = False,
) -> None:
    """Show how a file or hub dataset is read: format, counts, lengths, bad records, samples."""
    from rich.text import Text

    from plaudit.config.schema import SourceConfig
    from plaudit.data.inspect import as_json as in_json
    from plaudit.data.inspect import inspect as inspect_source
    from plaudit.data.rows.registry import ROW_KINDS
    from plaudit.files import json_text
    from plaudit.plugins import load_plugins

    load_plugins(plugin or [], "--plugin")
    if show_mask and tokenizer is None:
        raise PlauditError("--show-mask needs a tokenizer; name one with --tokenizer")
    if show_mask and as_json:
        raise PlauditError("--show-mask prints a table; leave out --json")
    loaded = _load_tokenizer(tokenizer) if tokenizer else None
    given: dict[str, Any] = {"path": file, "format": row_format, "limit": limit, "subset": subset, "split": split}
    given |= {"revision": revision, "streaming": streaming or None, "ignore_columns": ignore_column}
    # Reading refuses what does not apply to the source.
    source = SourceConfig.model_construct(**{key: value for key, value in given.items() if value is not None})
    with _reading_progress() as progress:
        found = inspect_source(source, ROW_KINDS[kind] if kind else None, loaded, context_length, samples, progress)
    if as_json:
        typer.echo(json_text(in_json(found), indent=2))
        raise typer.Exit(0 if found.refusal is None else 1)
    console = new_console()
    _print(found, console)
    if show_mask and found.first is not None:
        _print_mask(found.first, loaded, console)
    if found.refusal is not None:
        console.print(Text(f"A stage would refuse this: {found.refusal}"), soft_wrap=True)
        raise typer.Exit(1)


@app.command(epilog="Example: plaudit data formats")
@with_output_options
def formats() -> None:
    """List the formats of rows that are recognized, as a Markdown table."""
    from plaudit.data.formats.table import format_table

    for line in format_table():
        typer.echo(line)


@app.command(epilog="Example: plaudit data cache --clear")
@with_output_options
def cache(
    output: Annotated[
        str | None, typer.Option(help="Folder of the runs, as `output` in recipes.", show_default=False)
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete the cache; what is needed is built again.")] = False,
) -> None:
    """List what is kept of the data of earlier stages: rows and tokens, with their sizes."""
    from plaudit.config.schema import Recipe
    from plaudit.data.store.cache import DataCache

    kept = DataCache.of(output or Recipe.model_fields["output"].default)
    if clear:
        typer.echo(f"{kept.folder}: {kept.clear() / 1e6:.1f} MB deleted")
        return
    entries = kept.entries()
    for entry in entries:
        written, state = datetime.fromtimestamp(entry.written), "" if entry.complete else ", not complete"
        typer.echo(f"{entry.size / 1e6:10.1f} MB  {written:%Y-%m-%d %H:%M}  {entry.folder}{state}")
    typer.echo(f"{sum(entry.size for entry in entries) / 1e6:10.1f} MB in {len(entries)} folders of {kept.folder}")


def _load_tokenizer(name: str) -> Any:
    """Load a tokenizer for counting; unlike one for training, it needs no padding token."""
    from transformers import AutoTokenizer

    from plaudit.models.loading.pretrained import load_from

    return load_from(f"tokenizer {name}", AutoTokenizer.from_pretrained, name)


@contextmanager
def _reading_progress() -> "Iterator[Progress]":
    """Give the function that draws how much has been read: a bar on a terminal, nothing elsewhere."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    shown, quiet = log.console(), not log.LOGGER.isEnabledFor(logging.INFO)
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.fields[rows]} rows"))
    with Bar(*columns, console=shown, transient=True, disable=quiet or not shown.is_terminal) as bar:
        task = bar.add_task("", total=None, rows=0)

        def update(rows: int, fraction: float | None) -> None:
            bar.update(task, completed=fraction or 0.0, total=fraction and 1.0, rows=rows)

        yield update


def _print(found: "Inspection", console: "Console") -> None:
    console.print(_plain_table("what was found", "", _facts(found)))
    console.print(_lengths_table(found))
    if found.rejects:
        rejects = [
            (f"{reject.origin.within(found.path)}: {reject.reason}", reject.excerpt)
            for reject in found.rejects[:_SHOWN_REJECTS]
        ]
        title = f"bad records ({len(rejects)} of {found.counts.bad_records}; equal ones once)"
        console.print(_plain_table(title, "record", rejects))
    if found.samples:
        console.print(_plain_table("samples", "", _sample_lines(found)))


def _print_mask(row: "TokenizedRow[Any]", tokenizer: Any, console: "Console") -> None:
    from rich.table import Table
    from rich.text import Text

    from plaudit.data.mask import ending, masked_tokens

    table = Table("part", "token", "id", "text", "learned", title=f"line {row.row.origin.line} as the model sees it")
    for token in masked_tokens(row, tokenizer):
        mark = "learned" if token.learned else ""
        table.add_row(token.part, str(token.number), str(token.id), Text(token.text), mark)
    console.print(table)
    for number in range(len(row.tree.responses)):
        console.print(Text(ending(row, number, tokenizer)))


def _facts(found: "Inspection") -> Iterator[tuple[str, str]]:
    counts = found.counts
    bad_fraction = counts.bad_records / counts.records
    yield "source", found.path
    yield "format", found.format
    yield "recognized by", counts.reason
    yield "row kinds", ", ".join(found.kinds) + f" (read as {found.kind})"
    yield "records", str(counts.records)
    yield "rows", str(counts.rows)
    yield "different prompts" if found.kind != "text" else "different texts", str(found.prompts)
    yield "duplicate rows", str(found.duplicates)
    if found.contradictions is not None:
        yield "contradictory judgements", f"{found.contradictions.number} of {found.contradictions.judged}"
    yield "identical responses", str(found.identical_responses)
    yield "mismatched prompts", str(found.mismatched_prompts)
    yield "empty texts", str(found.empty_texts)
    if found.overlong is not None:
        yield f"longer than {found.context_length} tokens", str(found.overlong)
    if found.written is not None:
        yield "unknown tokens", f"{found.written.unknown} ({found.written.unknown_fraction:.2%})"
        yield "dropped characters", f"{found.written.dropped} ({found.written.dropped_fraction:.2%})"
        yield "tokens of single bytes", f"{found.written.single_bytes} ({found.written.byte_fraction:.2%})"
    yield from ((what, str(number)) for what, number in (found.counted or {}).items())
    if found.unfaithful:
        yield "the first row not written whole", found.unfaithful
    limit = f"at most {found.max_bad_fraction:.2%} with max_bad_fraction={found.max_bad_fraction:g}"
    yield "bad records", f"{counts.bad_records} ({bad_fraction:.2%}; {limit})"
    yield from ((f"  {reason}", str(number)) for reason, number in counts.bad.items())
    yield from ((f"unused: {reason}", str(number)) for reason, number in counts.unused.items())
    yield counts.unread_title, ", ".join(counts.unread) or "none"
    if found.nearest is not None:
        yield "nearest other formats", found.nearest
    yield from (("better response", verdict) for verdict in counts.verdicts)
    yield from (("warning", warning) for warning in found.warnings)


def _lengths_table(found: "Inspection") -> "Table":
    from rich.table import Table

    table = Table("lengths", *("shortest", "median", "mean", "95 %", "longest"))
    for column in table.columns[1:]:
        column.justify = "right"
    for what, lengths in found.lengths.items():
        numbers = (lengths.shortest, lengths.median, f"{lengths.mean:.1f}", lengths.percentile_95, lengths.longest)
        table.add_row(what, *map(str, numbers))
    return table


def _sample_lines(found: "Inspection") -> Iterator[tuple[str, str]]:
    from plaudit.data.measures import texts_of

    for row in found.samples:
        judgements = iter(row.judgements())
        yield row.origin.within(found.path), ""
        for what, text in texts_of(row):
            judgement = next(judgements, None) if what == "response" else None
            yield f"  {what}" + (f", {judgement}" if judgement else ""), _shortened(text)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " …"


def _plain_table(title: str, second: str, lines: "Iterator[tuple[str, str]] | list[tuple[str, str]]") -> "Table":
    from rich.table import Column, Table
    from rich.text import Text

    table = Table(title, Column(second, overflow="fold"))
    for name, value in lines:
        # Print data literally: square brackets in it are not markup.
        table.add_row(Text(visible(name)), Text(visible(value)))
    return table
