"""``plaudit lab``: compare algorithms with exactly known optima."""

from pathlib import Path
from typing import Annotated

import typer

from plaudit.errors import PlauditError

BOUND_MISSED = 1


def lab(
    only: Annotated[
        str | None,
        typer.Option(metavar="NAMES", help="Algorithms (rows of the table), separated by commas; default: all."),
    ] = None,
    problems: Annotated[int, typer.Option(min=1, help="Number of random problems.")] = 5,
    first_problem: Annotated[int, typer.Option(min=0, help="Number (seed) of the first problem.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Runs per algorithm and problem.")] = 1,
    workers: Annotated[int | None, typer.Option(min=1, help="Parallel processes; default: one per core.")] = None,
    output: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for lab.json, lab.csv and lab.png.")] = Path(
        "lab"
    ),
) -> None:
    """Compare every algorithm with its exact optimum on tiny problems.

    The exit code is 1 if an algorithm misses its target by more than its bounds.
    """
    from plaudit.lab.entries import chosen
    from plaudit.lab.table import default_workers, print_results, run_laboratory, write_results

    if output.exists() and not output.is_dir():
        raise PlauditError(f"{output} is a file; name a folder with --output")
    entries = chosen([name.strip() for name in only.split(",")] if only is not None else None)
    numbers = range(first_problem, first_problem + problems)
    rows = run_laboratory(entries, numbers, seeds, workers or default_workers())
    write_results(rows, output)
    print_results(rows, output)
    if any(row.passed is False for row in rows):
        raise typer.Exit(BOUND_MISSED)
