"""All runs of the laboratory, in parallel, and their results per row: on the screen, in files, in a figure."""

import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.progress import track
from rich.table import Table

from plaudit.evaluation.summary import csv_text
from plaudit.lab.entries import ENTRIES, Entry
from plaudit.log import new_console


@dataclass(frozen=True)
class RunResult:
    """One run: regret, KL to ``pi*`` and, if the algorithm has a target, the miss."""

    entry: str
    problem: int
    seed: int
    regret: float
    kl: float
    miss: float | None


@dataclass(frozen=True)
class Row:
    """An algorithm over all its runs; regrets and misses are means and maxima."""

    entry: Entry
    runs: tuple[RunResult, ...]

    @property
    def misses(self) -> list[float]:
        """Each run's remaining distance to the algorithm's target."""
        return [run.miss for run in self.runs if run.miss is not None]

    @property
    def passed(self) -> bool | None:
        """Whether the misses are within the bounds; None if there are no bounds or no misses."""
        if self.entry.mean is None or self.entry.worst is None or not self.misses:
            return None
        return fmean(self.misses) <= self.entry.mean and max(self.misses) <= self.entry.worst

    def numbers(self) -> dict[str, Any]:
        """Return the row as plain data."""
        return {
            "algorithm": self.entry.name,
            "target": self.entry.target_name,
            "mean_miss": fmean(self.misses) if self.misses else None,
            "worst_miss": max(self.misses) if self.misses else None,
            "mean_bound": self.entry.mean,
            "worst_bound": self.entry.worst,
            "passed": self.passed,
            "mean_regret": fmean(run.regret for run in self.runs),
            "worst_regret": max(run.regret for run in self.runs),
            "mean_kl": fmean(run.kl for run in self.runs),
            "runs": len(self.runs),
        }


def run_laboratory(entries: Sequence[Entry], problems: Sequence[int], seeds: int, workers: int) -> list[Row]:
    """Run every row on every problem with every seed; the results do not depend on the number of workers."""
    with tempfile.TemporaryDirectory(prefix="plaudit-lab-") as folder, _pool(workers) as pool:
        prepare = partial(_prepare, Path(folder))
        list(track(pool.map(prepare, problems), "reference models", total=len(problems), transient=True))
        jobs = [
            pool.submit(_run, entry.name, problem, seed, Path(folder))
            for entry in entries
            for problem in problems
            for seed in range(seeds)
        ]
        done = [job.result() for job in track(as_completed(jobs), "runs", total=len(jobs), transient=True)]
    found = sorted(done, key=lambda run: (run.problem, run.seed))
    return [Row(entry, tuple(run for run in found if run.entry == entry.name)) for entry in entries]


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_start_worker)


def _start_worker() -> None:
    import warnings

    import torch
    from transformers.utils import logging

    torch.set_num_threads(1)
    logging.disable_progress_bar()
    warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")


def _prepare(folder: Path, problem: int) -> None:
    from plaudit.lab.problem import Problem
    from plaudit.lab.reference import write_reference

    write_reference(Problem(problem), folder / str(problem))


def _run(name: str, number: int, seed: int, folder: Path) -> RunResult:
    import shutil

    from plaudit.lab.exact import Exact, kl
    from plaudit.lab.problem import Problem
    from plaudit.lab.training import saved_policy, trained_policy

    entry = next(entry for entry in ENTRIES if entry.name == name)
    problem = Problem(number)
    with tempfile.TemporaryDirectory(dir=folder) as own:
        shutil.copytree(folder / str(number) / "reference", Path(own) / "reference")
        reference = saved_policy(Path(own) / "reference")
        policy = trained_policy(entry, problem, seed, Path(own))
    exact = Exact(reference, problem.rewards, problem.beta)
    target = None if entry.target is None else entry.target(exact)
    miss = None if target is None else kl(policy, target) / kl(reference, target)
    return RunResult(name, number, seed, exact.regret(policy), kl(policy, exact.optimum()), miss)


# Results --------------------------------------------------------------------------------------------------------------


def result_table(rows: Sequence[Row]) -> Table:
    """Return the table for the terminal."""
    table = Table(
        title="Exact laboratory",
        caption="Mean and worst of all runs, in % of the reference's value. Miss: KL to the algorithm's target. "
        "Bounds: the largest mean and worst miss that pass. "
        "Regret: relative to the KL-regularized optimum π*.",
        box=SIMPLE_HEAD,  # Without lines between the columns, the table fits 80 characters.
        padding=0,
        pad_edge=False,
        show_edge=False,
    )
    table.add_column("algorithm", no_wrap=True)
    table.add_column("target", no_wrap=True)
    for heading in ("miss", "bounds", "regret", "KL to π*", "ok"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*_cells(row.numbers()))
    return table


def _cells(numbers: dict[str, Any]) -> Iterator[str]:
    def pair(name: str, digits: str = ".2f") -> str:
        mean, worst = numbers[f"mean_{name}"], numbers[f"worst_{name}"]
        return "-" if mean is None else f"{100 * mean:{digits}}, {100 * worst:{digits}}"

    yield numbers["algorithm"]
    yield numbers["target"]
    yield pair("miss")
    yield pair("bound", "g")
    yield pair("regret", ".1f")
    yield f"{numbers['mean_kl']:.4f}"
    yield {True: "[green]yes[/]", False: "[bold red]no[/]", None: "-"}[numbers["passed"]]


def write_results(rows: Sequence[Row], folder: Path) -> None:
    """Write ``lab.json`` (rows with all their runs), ``lab.csv`` (rows) and ``lab.png`` into ``folder``."""
    from plaudit.lab.figure import miss_figure

    folder.mkdir(parents=True, exist_ok=True)
    content = [row.numbers() | {"each": [asdict(run) for run in row.runs]} for row in rows]
    (folder / "lab.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "lab.csv").write_text(csv_text([row.numbers() for row in rows]), encoding="utf-8", newline="")
    miss_figure(rows).savefig(folder / "lab.png", dpi=160)


def default_workers() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def print_results(rows: Sequence[Row], folder: Path) -> None:
    """Print the table and where the files are."""
    console = new_console()
    console.print(result_table(rows))
    console.print(f"written to {folder}: lab.json, lab.csv, lab.png", highlight=False, markup=False)
