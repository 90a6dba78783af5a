"""Killed at any moment, then started again: the final weights are the same bits as without the kill."""

import random
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import plaudit
from forked_commands import ForkedCommand
from tiny_runs import tiny_recipe

STAGES = ("pretrain", "sft", "reward", "dpo", "rl")


def start(recipe: Path) -> ForkedCommand:
    return ForkedCommand("-m", "plaudit", "run", str(recipe))


def finish(process: ForkedCommand) -> str:
    output = process.communicate()[0]
    assert process.returncode == 0, output
    return output


def final_bits(run: Path) -> dict[str, bytes]:
    return {stage: (run / stage / "model" / "model.safetensors").read_bytes() for stage in STAGES}


def metrics(run: Path, stage: str) -> list[str]:
    """Return the lines of metrics without the seconds."""
    lines = (run / stage / "metrics.jsonl").read_text().splitlines()
    return [",".join(part for part in line.split(",") if "seconds" not in part) for line in lines]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted")
    finish(start(tiny_recipe(folder)))
    return folder / "runs" / "tiny"


def checkpoints_seen(run: Path, stage: str) -> int:
    folder = run / stage / "checkpoints"
    return max((int(path.name.removeprefix("step-")) for path in folder.glob("step-" + "[0-9]" * 8)), default=0)


@pytest.mark.parametrize(
    "stage, after_step", [("pretrain", 2), ("sft", 1), ("reward", 3), ("dpo", 2), ("rl", 2), ("rl", 5)]
)
def test_kill_in_a_stage_changes_no_bit(uninterrupted: Path, tmp_path: Path, stage: str, after_step: int) -> None:
    """An RL iteration has four steps here: 2 is in the middle of the first epochs, 5 in the second iteration's."""
    recipe = tiny_recipe(tmp_path)
    run = tmp_path / "runs" / "tiny"
    process = start(recipe)
    # A random moment of the step: nothing may depend on the exact moment of the kill.
    pause = random.Random(f"{stage} {after_step}").random() * 0.05
    while process.poll() is None and checkpoints_seen(run, stage) < after_step:
        time.sleep(0.002)
    time.sleep(pause)
    process.send_signal(signal.SIGKILL)
    output = process.communicate()[0]
    assert process.returncode == -signal.SIGKILL, f"the run was over before the kill: {output}"
    output = finish(start(recipe))
    assert f"{stage}: continuing after step" in output
    if stage == "dpo":
        assert "computing reference log-probabilities" not in output
    assert final_bits(run) == final_bits(uninterrupted)
    for name in STAGES:
        assert metrics(run, name) == metrics(uninterrupted, name)


def lines_seen(run: Path, stage: str) -> int:
    file = run / stage / "metrics.jsonl"
    return file.read_bytes().count(b"\n") if file.exists() else 0


def test_sigterm_writes_a_checkpoint_and_says_so(uninterrupted: Path, tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, rl__checkpoint_every=1000)
    run = tmp_path / "runs" / "tiny"
    process = start(recipe)
    while process.poll() is None and lines_seen(run, "rl") < 2:  # the second line follows the first iteration's steps
        time.sleep(0.002)
    process.send_signal(signal.SIGTERM)
    output = process.communicate()[0]
    assert process.returncode == 143, output
    assert "with a checkpoint; the same command resumes" in output
    assert checkpoints_seen(run, "rl") >= 1
    finish(start(recipe))
    assert final_bits(run) == final_bits(uninterrupted)


@pytest.mark.parametrize("step, state", [(0, "before the stage's first step"), (2, "with a checkpoint")])
def test_the_message_claims_a_checkpoint_only_if_there_is_one(
    uninterrupted: Path, tmp_path: Path, step: int, state: str
) -> None:
    def stop(stage: str, metrics: Mapping[str, Any]) -> None:
        if metrics["step"] == step:
            signal.raise_signal(signal.SIGTERM)

    recipe, run = tiny_recipe(tmp_path), tmp_path / "runs" / "tiny"
    with pytest.raises(plaudit.Interrupted, match=state) as caught:
        plaudit.pretrain(recipe, on_metrics=stop)
    assert caught.value.checkpoint == (step > 0)
    assert checkpoints_seen(run, "pretrain") == step
    plaudit.pretrain(recipe)
    assert metrics(run, "pretrain") == metrics(uninterrupted, "pretrain")
    weights = Path("pretrain", "model", "model.safetensors")
    assert (run / weights).read_bytes() == (uninterrupted / weights).read_bytes()
