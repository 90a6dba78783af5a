"""Runs that are killed end with the same bits, and the comparison of two runs notices every difference but times."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from killing.folders import differences

from child_processes import child_environment

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kill.py"


def test_killed_runs_end_with_the_same_bits() -> None:
    options = ["--kills", "6", "--arrangements", "separate", "--stages", "dpo", "rl", "--seed", "1"]
    command, environment = [sys.executable, str(SCRIPT), *options], child_environment()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 kills, 0 differences" in done.stdout


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """Return the folders of two runs that differ in times only."""
    for name, seconds in (("one", 1.5), ("two", 2.5)):
        folder = tmp_path / name / "sft"
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"weights")
        (folder / "manifest.json").write_text(json.dumps({"seconds": seconds}))
        (folder / "result.json").write_text(json.dumps({"loss": 1.0, "seconds": seconds}))
        lines = [{"step": 1, "seconds": seconds, "loss": 2.0}, {"step": 2, "seconds": 2 * seconds, "loss": 1.0}]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path / "one", tmp_path / "two"


def test_times_are_no_differences(folders: tuple[Path, Path]) -> None:
    assert differences(*folders) == []


@pytest.mark.parametrize(
    "name, content, line",
    [
        ("model.safetensors", "weightz", "sft/model.safetensors: differs"),
        ("result.json", '{"loss": 1.5, "seconds": 1}', "sft/result.json: differs"),
        ("metrics.jsonl", '{"step": 1, "loss": 2.0}\n', "sft/metrics.jsonl: differs"),
        ("model.unfinished", "", "sft/model.unfinished: left over"),
    ],
)
def test_all_else_is_a_difference(folders: tuple[Path, Path], name: str, content: str, line: str) -> None:
    one, two = folders
    (two / "sft" / name).write_text(content)
    [found] = differences(one, two)
    assert found.startswith(line)
    shutil.rmtree(two)
    assert "sft/manifest.json: missing" in differences(one, two)
