"""A short version of the laboratory's table, with the real code and fixed seeds."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from plaudit.cli.lab import lab
from plaudit.cli.main import app
from plaudit.errors import PlauditError
from plaudit.lab.entries import ENTRIES, Entry, chosen
from plaudit.lab.exact import Exact, kl
from plaudit.lab.problem import Problem
from plaudit.lab.reference import write_reference
from plaudit.lab.table import Row, RunResult, result_table
from plaudit.lab.training import saved_policy, trained_policy

SHORT = ("exact gradient", "ppo shared", "rloo", "online dpo", "plackett-luce dpo", "best of 4")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lab")
    write_reference(Problem(0), folder)
    return folder


@pytest.mark.parametrize("name", SHORT)
def test_algorithms_reach_their_targets(name: str, folder: Path) -> None:
    entry = chosen([name])[0]
    reference = saved_policy(folder / "reference")
    exact = Exact(reference, Problem(0).rewards, Problem(0).beta)
    assert entry.target is not None
    target = entry.target(exact)
    assert target is not None
    policy = trained_policy(entry, Problem(0), 0, folder)
    assert entry.worst is not None
    assert kl(policy, target) / kl(reference, target) < entry.worst


def test_a_row_passes_if_mean_and_worst_are_within_bounds() -> None:
    entry = Entry("any", "rl", mean=0.02, worst=0.05)
    runs = [RunResult("any", 0, seed, miss, 0.0, miss) for seed, miss in enumerate((0.01, 0.015))]
    assert Row(entry, tuple(runs)).passed is True
    assert Row(entry, (*runs, RunResult("any", 0, 2, 0.06, 0.0, 0.06))).passed is False
    assert Row(Entry("any", "rl", mean=0.01, worst=0.05), tuple(runs)).passed is False
    assert Row(Entry("any", "rl", target=None, mean=None, worst=None), tuple(runs)).passed is None
    assert Row(entry, (RunResult("any", 0, 0, 0.3, 0.0, None),)).passed is None


def test_the_table_is_whole_on_80_columns() -> None:
    rows = [Row(entry, (RunResult(entry.name, 0, 0, 19.99, 2.1, 0.0428),)) for entry in ENTRIES]
    printed = io.StringIO()
    Console(file=printed, width=80).print(result_table(rows))
    lines = printed.getvalue().splitlines()
    assert not any("…" in line for line in lines)
    assert all(any(line.startswith(entry.name) for line in lines) for entry in ENTRIES)


def test_a_file_is_refused_as_the_output_folder(tmp_path: Path) -> None:
    (tmp_path / "lab").write_text("mine")
    with pytest.raises(PlauditError, match="is a file; name a folder with --output"):
        lab(output=tmp_path / "lab")


def test_names_are_told_apart() -> None:
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert not any("," in name for name in names)
    with pytest.raises(PlauditError, match="no such row; choose from"):
        chosen(["pop"])
    assert CliRunner().invoke(app, ["lab", "--only", ""]).exception.args[0].startswith("--only: ")  # type: ignore[union-attr]


def test_the_command_writes_its_files(tmp_path: Path) -> None:
    options = ["--problems", "1", "--first-problem", "6", "--seeds", "1", "--workers", "1", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, ["lab", "--only", "exact gradient,best of 4", *options])
    assert result.exit_code == 0, result.output
    rows = json.loads((tmp_path / "lab.json").read_text())
    assert [row["algorithm"] for row in rows] == ["exact gradient", "best of 4"]
    assert all(row["passed"] and row["runs"] == 1 for row in rows)
    assert all([run["problem"] for run in row["each"]] == [6] for row in rows)
    assert (tmp_path / "lab.csv").read_text().startswith('"algorithm","target",')
    assert (tmp_path / "lab.png").stat().st_size > 1000
