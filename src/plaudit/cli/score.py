"""``plaudit score``: scores for the responses of a file."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from plaudit.cli.console import DeviceOption, OverwriteOption

if TYPE_CHECKING:
    from plaudit.serving.score_file import Moments, ScoreTally


def score(
    model: Annotated[
        str,
        typer.Argument(
            metavar="REWARD", help="A run, a reward model, a classifier as FOLDER:LABEL, module:function or an address."
        ),
    ],
    data: Annotated[str, typer.Option(help="File, folder or hub dataset with prompts and their responses.")],
    output: Annotated[
        Path | None, typer.Option(help="JSON lines file to write: the rows with their scores.", show_default=False)
    ] = None,
    column: Annotated[
        str | None, typer.Option(help="Name of the new column.", show_default="score, or scores of several responses")
    ] = None,
    row_format: Annotated[
        str, typer.Option("--format", help="Row format; auto recognizes it by the columns.")
    ] = "auto",
    limit: Annotated[int | None, typer.Option(help="Read only this many records.", min=1, show_default=False)] = None,
    overwrite: OverwriteOption = False,
    device: DeviceOption = None,
) -> None:
    """Score the responses of a file, as a run would.

    Rows may be responses, pairs, rankings or labeled responses in any format that training reads. If the rows hold
    judgements, the accuracy of the scores is printed.
    """
    from plaudit import api
    from plaudit.files import atomic_lines
    from plaudit.log import new_console
    from plaudit.serving.files import refuse_existing, scanned, source_at
    from plaudit.serving.score_file import refuse_without_responses, score_file

    refuse_existing(output, overwrite)
    options = {"format": row_format} | ({} if limit is None else {"limit": limit})
    rows: Any = scanned(source_at(data, **options))
    refuse_without_responses(rows)
    reward = api.load_reward(model, device=device)
    with nullcontext(lambda _: None) if output is None else atomic_lines(output) as write:
        tally = score_file(reward, rows, write, column)
    new_console().print("\n".join(_summary(tally)), markup=False, soft_wrap=True)


def _summary(tally: "ScoreTally") -> Iterator[str]:
    yield f"scores: {_described(tally.scores)}"
    for label, name in ((True, "desirable"), (False, "undesirable")):
        if tally.of_label[label].number:
            yield f"  of {name} responses: {_described(tally.of_label[label])}"
    if (found := tally.accuracy()) is not None:
        interval = f"95 % interval {found['low']:.3f} to {found['high']:.3f}"
        yield f"accuracy: {found['accuracy']:.3f} ({interval}; {found['pairs']} pairs, {found['prompts']} prompts)"


def _described(scores: "Moments") -> str:
    return (
        f"{scores.number} responses, mean {scores.mean:.4g}, standard deviation {scores.deviation:.4g}, "
        f"{scores.lowest:.4g} to {scores.highest:.4g}"
    )
