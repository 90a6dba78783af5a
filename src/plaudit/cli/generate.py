"""``plaudit generate``: texts for the prompts of a file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from plaudit.cli.console import (
    DeviceOption,
    MaxNewTokensOption,
    OverwriteOption,
    PlainOption,
    SeedOption,
    TemperatureOption,
    TopPOption,
)


def generate(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="A run (name or folder), a model or adapter folder, or a hub name.")
    ],
    prompts: Annotated[
        str, typer.Option(help="File, folder or hub dataset with prompts; - reads them from the input, one a line.")
    ],
    output: Annotated[
        Path | None, typer.Option(help="JSON lines file to write.", show_default="standard output")
    ] = None,
    number: Annotated[int, typer.Option("-n", help="Texts per prompt.", min=1)] = 1,
    best_of: Annotated[
        int | None,
        typer.Option("--best-of", help="Candidates per prompt; the -n best are kept.", min=1, show_default=False),
    ] = None,
    reward: Annotated[
        str | None,
        typer.Option(
            help="What scores the texts: run, reward model, classifier as FOLDER:LABEL, module:function or address.",
            show_default="with --best-of the run's",
        ),
    ] = None,
    max_new_tokens: MaxNewTokensOption = None,
    temperature: TemperatureOption = None,
    top_p: TopPOption = None,
    top_k: Annotated[
        int | None,
        typer.Option(help="Sample from this many most likely tokens; 0: all.", min=0, show_default="the run's, or 0"),
    ] = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="Text that ends a response; may be repeated.", show_default="the run's")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Texts generated at a time.", min=1, show_default="the run's, or 64")
    ] = None,
    plain: PlainOption = False,
    limit: Annotated[int | None, typer.Option(help="Read only this many prompts.", min=1, show_default=False)] = None,
    overwrite: OverwriteOption = False,
    seed: SeedOption = 0,
    device: DeviceOption = None,
) -> None:
    """Generate texts for the prompts of a file.

    Each line of the output has the prompt, the response, whether it ended by itself, and its score with a reward.
    """
    from plaudit import api
    from plaudit.files import atomic_lines, json_text
    from plaudit.serving.files import refuse_existing, scanned_prompts
    from plaudit.serving.generate_file import generate_file

    refuse_existing(output, overwrite)
    with _file_of(prompts) as file:
        found = scanned_prompts(file, **({} if limit is None else {"limit": limit}))
        policy = api.load_policy(model, device=device, plain=plain)
        given = {
            "max_new_tokens": max_new_tokens,
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "stop": stop or None,
            "batch_size": batch_size,
        }
        settings = policy.settings({key: value for key, value in given.items() if value is not None})
        of_run = model if best_of is not None and reward is None else None
        scored_by = reward or of_run
        judge = None if scored_by is None else api.load_reward(scored_by, device=device)
        lines = nullcontext(lambda row: typer.echo(json_text(row, otherwise=str)))
        with lines if output is None else atomic_lines(output) as write:
            generate_file(policy, found, write, settings, number, best_of, judge, seed)


@contextmanager
def _file_of(prompts: str) -> Iterator[str]:
    """Give the name of a file with the prompts: for ``-`` a temporary one with the lines of the input."""
    if prompts != "-":
        yield prompts
        return
    with TemporaryDirectory() as folder:
        file = Path(folder) / "input.txt"
        with file.open("wb") as copy:
            for line in sys.stdin.buffer:
                copy.write(line)
        yield str(file)
