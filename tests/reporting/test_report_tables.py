"""The comparison, the headline, and how numbers are written."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from plaudit.reporting import numbers
from plaudit.reporting.reading import read_run
from plaudit.reporting.tables import Cell, comparison, headline, judging_source
from plaudit.reporting.terminal import comparison_table, print_samples
from report_runs import make_summary, rl_metrics, supervised_metrics, write_lines, write_object, write_run


@pytest.fixture
def summary() -> dict[str, Any]:
    return make_summary()


def plain(text: str) -> str:
    """With the signs and spaces of a keyboard."""
    return text.replace(numbers.MINUS, "-").replace(numbers.THIN_SPACE, " ")


def rows(summary: dict[str, Any]) -> dict[str, tuple[Cell, ...]]:
    return {measure.name: measure.cells for measure in comparison(summary)}


def test_every_number_of_the_summary_is_in_its_cell(summary: dict[str, Any]) -> None:
    expected = {
        "reward_model": ["-1.231 ± 0.061", "0.034 ± 0.061", "1.912 ± 0.061"],
        "gold": ["0.187 ± 0.012", "0.523 ± 0.012", "0.914 ± 0.012"],
        "Win rate, reward_model": ["8 % [5, 11]", "", "94 % [91, 97]"],
        "Win rate, gold": ["8 % [5, 11]", "", "94 % [91, 97]"],
        "KL": ["9.12 ± 0.21", "0.00", "12.25 ± 0.21"],
        "Perplexity": ["10.1", "2.94", "4.10"],
        "Length": ["31.4", "24.2", "27.9"],
        "Distinct-1": ["0.212", "0.241", "0.198"],
        "Distinct-2": ["0.512", "0.541", "0.498"],
        "Ended": ["61 %", "97 %", "99 %"],
    }
    written = {name: [f"{cell.text} {cell.detail}" for cell in cells] for name, cells in rows(summary).items()}
    assert {name: [plain(text).strip() for text in texts] for name, texts in written.items()} == expected


def test_the_best_value_is_marked_where_more_is_better(summary: dict[str, Any]) -> None:
    marks = {name: [cell.best for cell in cells] for name, cells in rows(summary).items()}
    marked = {name: row.index(True) for name, row in marks.items() if any(row)}
    ppo, sft = 2, 1
    assert marked == {
        "reward_model": ppo,
        "gold": ppo,
        "Win rate, reward_model": ppo,
        "Win rate, gold": ppo,
        "Distinct-1": sft,
        "Distinct-2": sft,
        "Ended": ppo,
    }


def test_the_best_mark_follows_the_values(summary: dict[str, Any]) -> None:
    summary["models"]["pretrain"]["scores"]["gold"]["mean"] = 0.99
    assert [cell.best for cell in rows(summary)["gold"]] == [True, False, False]


def test_values_that_are_written_alike_are_equally_good(summary: dict[str, Any]) -> None:
    summary["models"]["sft"]["scores"]["gold"]["mean"] = 0.9142
    assert [cell.best for cell in rows(summary)["gold"]] == [False, True, True]
    summary["models"]["pretrain"]["scores"]["gold"]["mean"] = 0.914
    assert [cell.best for cell in rows(summary)["gold"]] == [False, False, False]


def test_absent_measures_are_left_out(summary: dict[str, Any]) -> None:
    for entry in summary["models"].values():
        del entry["kl"], entry["perplexity"], entry["win_rate" if "win_rate" in entry else "length"]
    assert "KL" not in rows(summary)
    assert "Perplexity" not in rows(summary)
    assert "Win rate, gold" not in rows(summary)
    assert [cell.text for cell in rows(summary)["Length"]] == ["31.4", "", "27.9"]


def test_the_headline_quotes_the_judge_that_was_not_trained_on(tmp_path: Path) -> None:
    statement = headline(read_run(write_run(tmp_path / "run")))
    text = plain(str(statement))
    assert text == "gold 0.52 → 0.91; ppo wins 94 % [91, 97] of 300 held-out prompts against sft"


def test_without_an_independent_judge_the_first_source_is_quoted(summary: dict[str, Any]) -> None:
    assert judging_source(summary, ["reward_model"]) == "gold"
    assert judging_source(summary, ["reward_model", "gold"]) == "reward_model"
    assert judging_source({"reward_sources": []}, []) is None


def test_a_loss_is_stated_as_plainly_as_a_gain(tmp_path: Path, summary: dict[str, Any]) -> None:
    summary["models"]["ppo"]["scores"]["gold"]["mean"] = -0.4
    run = replace(read_run(write_run(tmp_path / "run")), summary=summary)
    assert plain(str(headline(run))).startswith("gold 0.52 → -0.40; ")


def test_without_an_evaluation_the_last_training_stage_makes_the_headline(tmp_path: Path) -> None:
    assert headline(read_run(tmp_path)) is None
    write_lines(tmp_path / "sft" / "metrics.jsonl", supervised_metrics(50, 2.0, 1.0))
    sft = read_run(tmp_path)
    values = sft.stage("sft").series("held_out/loss").values
    assert str(headline(sft)) == f"held-out loss {values[0]:.2f} → {values[-1]:.2f}; from step 25 to step 50"
    write_lines(tmp_path / "rl" / "metrics.jsonl", rl_metrics(20))
    assert str(headline(read_run(tmp_path))).startswith("reward in training ")


def test_an_evaluation_of_one_model_has_no_before_and_after(tmp_path: Path, summary: dict[str, Any]) -> None:
    summary["models"] = {"sft": summary["models"]["sft"]}
    write_object(tmp_path / "evaluate" / "summary.json", summary)
    assert headline(read_run(tmp_path)) is None


def test_the_terminal_shows_the_same_table(summary: dict[str, Any]) -> None:
    console = Console(file=io.StringIO(), width=160, color_system=None)
    console.print(comparison_table(summary))
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    gold = next(line for line in printed.splitlines() if " gold " in line)
    assert "0.187 ± 0.012" in gold
    assert "● 0.914 ± 0.012" in gold
    assert "simulated" in printed


def test_the_terminal_shows_samples_as_they_are(summary: dict[str, Any]) -> None:
    summary["samples"][0]["responses"]["ppo"]["text"] = "[bold]not markup[/bold]"
    console = Console(file=io.StringIO(), width=120, color_system=None)
    print_samples(summary, 1, console)
    printed = console.file.getvalue()  # type: ignore[attr-defined]
    assert "[bold]not markup[/bold]" in printed
    assert "Guest 0" in printed
    assert "Guest 1" not in printed
    assert "gold 0.97" in printed


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (4.561, "4.56"),
        (789.4, "789"),
        (-2.5, "-2.50"),
        (1.234e-5, "1.23e-05"),
        (2e7, "2e+07"),
    ],
)
def test_significant(value: float, text: str) -> None:
    assert plain(numbers.significant(value)) == text


@pytest.mark.parametrize(
    "error, decimals", [(0.0123, 3), (0.061, 3), (0.21, 2), (4.2, 1), (310.0, 1), (1e-7, 4), (0.0, 3)]
)
def test_decimals_for(error: float, decimals: int) -> None:
    assert numbers.decimals_for(error) == decimals


@pytest.mark.parametrize(
    "seconds, text", [(0.42, "0.4 s"), (41.7, "42 s"), (59.7, "1 min 00 s"), (185, "3 min 05 s"), (7620, "2 h 07 min")]
)
def test_duration(seconds: float, text: str) -> None:
    assert plain(numbers.duration(seconds)) == text


@pytest.mark.parametrize(
    "count, text", [(812, "812 B"), (4200, "4.2 kB"), (999_999, "1.0 MB"), (2_000_000_000, "2.0 GB")]
)
def test_file_size(count: int, text: str) -> None:
    assert plain(numbers.file_size(count)) == text


@given(st.floats(-1e6, 1e6), st.integers(0, 4))
def test_fixed_never_shows_minus_zero_and_reads_back(value: float, decimals: int) -> None:
    text = plain(numbers.fixed(value, decimals))
    assert float(text) == pytest.approx(value, abs=0.51 * 10**-decimals)
    assert not (float(text) == 0 and "-" in text)
