import io
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from plaudit.config.load import load_recipe
from plaudit.log import only_warnings
from plaudit.runner import run
from plaudit.runs.progress import StageProgress
from tiny_runs import tiny_recipe


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def shown(use: Callable[[StageProgress, Clock], None], terminal: bool, enabled: bool = True, done: int = 0) -> str:
    """Return what is drawn on a terminal."""
    output, clock = io.StringIO(), Clock()
    console = Console(file=output, force_terminal=terminal, width=100, legacy_windows=False)
    with StageProgress("sft", 100, done, enabled, console, clock) as progress:
        use(progress, clock)
    return output.getvalue()


def steps(*numbers: int) -> Callable[[StageProgress, Clock], None]:
    def use(progress: StageProgress, clock: Clock) -> None:
        for number in numbers:
            clock.now += 3.0
            progress.update(number, f"loss {4.0 / number:.4g}")

    return use


def test_without_a_terminal_a_line_every_ten_seconds_and_one_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(steps(10, 20, 30, 40, 50, 60), terminal=False) == ""
    lines = capsys.readouterr().err.splitlines()
    # Twelve seconds for 40 steps, so eighteen for the other 60; then eighteen for 60, so twelve for the other 40.
    assert lines == ["sft 40/100, loss 0.1, 0:00:18 left", "sft 60/100, loss 0.06667, 0:00:12 left"]


def test_earlier_steps_do_not_count_for_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    shown(steps(91), terminal=False, done=90)
    assert capsys.readouterr().err == "sft 91/100, loss 0.04396, 0:00:27 left\n"


def test_the_last_step_is_shown_once(capsys: pytest.CaptureFixture[str]) -> None:
    def use(progress: StageProgress, clock: Clock) -> None:
        clock.now += 50
        progress.update(100, "loss 0.04")

    shown(use, terminal=False)
    assert capsys.readouterr().err == "sft 100/100, loss 0.04, 0:00:00 left\n"


def test_a_terminal_gets_a_bar_with_stage_steps_and_number() -> None:
    output = shown(steps(25), terminal=True)
    for part in ("sft", "25/100", "loss 0.16"):
        assert part in output


def test_other_processes_show_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(steps(100), terminal=False, enabled=False) == ""
    assert shown(steps(100), terminal=True, enabled=False) == ""
    assert capsys.readouterr().err == ""


def test_only_warnings_means_no_bar_and_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    with only_warnings():
        assert shown(steps(50, 100), terminal=True) == ""
        assert shown(steps(50, 100), terminal=False) == ""
    assert capsys.readouterr().err == ""


def test_no_step_no_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(steps(), terminal=False) == ""
    assert capsys.readouterr().err == ""


def test_without_held_out_data_the_loss_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(load_recipe(str(tiny_recipe(tmp_path)), ["pretrain.data.held_out_fraction=0"]), ["pretrain"])
    output = capsys.readouterr().err
    assert "loss" in output
    assert "nan" not in output
