"""The comparison of models and the samples, as printed at the end of a run."""

from collections.abc import Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from plaudit.evaluation.summary import described
from plaudit.log import new_console, visible
from plaudit.reporting.logs import is_number
from plaudit.reporting.numbers import ABSENT, fixed
from plaudit.reporting.tables import Cell, comparison, model_names

SIMULATED = "Texts and annotators in this run are simulated."


def comparison_table(summary: Mapping[str, Any]) -> Table:
    """Every measure of every model, one column per model. The best value of a row is marked and in bold green.

    Args:
        summary: the content of ``evaluate/summary.json``.
    """
    table = Table(title="Models on held-out prompts", caption=_caption(summary))
    table.add_column("measure")
    for name in model_names(summary):
        table.add_column(Text(name), justify="right", no_wrap=True)
    for measure in comparison(summary):
        table.add_row(Text(measure.name), *map(_cell, measure.cells))
    return table


def _caption(summary: Mapping[str, Any]) -> Text:
    baseline, reference = summary.get("baseline", "the baseline"), summary.get("reference", "the reference")
    words = (
        f"Mean ± standard error. Win rates are against {baseline}, with 95 % intervals. KL is to {reference}, in nats "
        f"per response. Length is in tokens. ● marks the best value of a row where higher is better."
    )
    words = " ".join([*described(summary), words])
    return Text(f"{words} {SIMULATED}" if summary.get("simulated") else words)


def _cell(cell: Cell) -> Text:
    if not cell.text:
        return Text(ABSENT, style="dim")
    text = Text(f"● {cell.text}", style="bold green") if cell.best else Text(cell.text)
    return text.append(f" {cell.detail}", style="not bold dim") if cell.detail else text


def print_samples(summary: Mapping[str, Any], count: int, console: Console | None = None) -> None:
    """Print prompts with every model's response side by side.

    Args:
        summary: the content of ``evaluate/summary.json``.
        count: number of prompts.
        console: where to print; standard output by default.
    """
    console = console or new_console()
    if summary.get("simulated"):
        console.print(Text(SIMULATED, style="dim"))
    for sample in (summary.get("samples") or [])[:count]:
        responses = sample["responses"]
        width = max(24, (console.width - 2) // max(len(responses), 1) - 1)
        panels = [_response(name, response, width) for name, response in responses.items()]
        console.print(
            Text(visible(sample["prompt"].strip()), style="bold"), Columns(panels, padding=(0, 1)), "", sep="\n"
        )


def _response(name: str, response: Mapping[str, Any], width: int) -> Panel:
    scores = [f"{source} {fixed(score, 2)}" for source, score in response.get("scores", {}).items() if is_number(score)]
    content = Group(Text(visible(response["text"].strip())), Text("  ".join(scores), style="cyan"))
    return Panel(content, title=Text(name, style="bold"), width=width, title_align="left")
