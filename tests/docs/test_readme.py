"""The README's example with the reader's own data runs as printed, without a network."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from plaudit.cli.main import app
from plaudit.data.formats.registry import FORMATS

README = Path(__file__).parents[2] / "README.md"
SECTION = README.read_text(encoding="utf-8").split("## Your own data in ten lines")[1].split("\n## ")[0]

SMALL_WORLD = ("world.pretraining_texts=60", "world.comparisons=600", "world.demonstrations=40", "threads=1")
SHORT_QUICKSTART = (*SMALL_WORLD, "pretrain.max_steps=2", "sft.max_steps=2", "pretrain.samples=0", "sft.samples=0")
SHORT_RL = ("rl.iterations=1", "rl.prompts_per_iteration=4", "rl.held_out_prompts=2", "rl.generation.max_new_tokens=4")
SHORT_RUN = (*SHORT_RL, "reward.max_steps=2", "threads=1", "device=cpu")


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def plaudit(*arguments: str, typed: str = "") -> str:
    result = CliRunner().invoke(app, arguments, input=typed)
    assert result.exit_code == 0, (arguments, result.exception)
    return result.output


@pytest.fixture
def after_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which a short quickstart has trained its language models."""
    monkeypatch.chdir(tmp_path)
    only = [part for stage in ("world", "pretrain", "sft") for part in ("--only", stage)]
    plaudit("run", "quickstart", *SHORT_QUICKSTART, "device=cpu", *only)
    return tmp_path


def test_the_example_for_own_data_runs_as_printed(after_quickstart: Path) -> None:
    (after_quickstart / "mine.yaml").write_text(block("yaml"))
    lines = [line.split(" #")[0].strip() for line in block("sh").splitlines()]
    activate, head, inspect, run, chat = (shlex.split(line) for line in lines)
    assert activate == [".", ".venv/bin/activate"]
    subprocess.run(lines[1], shell=True, check=True)
    assert head[0] == "head"
    assert len((after_quickstart / "pairs.jsonl").read_text().splitlines()) == 500
    assert "ranked_responses" in plaudit(*inspect[1:])
    plaudit(*run[1:], *SHORT_RUN)
    folder = after_quickstart / "runs" / "mine"
    assert json.loads((folder / "rl" / "metrics.jsonl").read_text().splitlines()[-1])["step"] >= 1
    assert yaml.safe_load((folder / "config.yaml").read_text())["rl"]["optimizer"]["learning_rate"] == 1e-3
    assert (folder / "report" / "report.html").exists()
    assert "(rank 4)" in plaudit(*chat[1:], typed="Guest: Hello. Concierge:\n/why\n/quit\n"), "four ranked candidates"


def test_the_recipe_has_ten_lines() -> None:
    assert len(block("yaml").splitlines()) == 10


def test_the_number_of_row_formats_is_right() -> None:
    assert f"[{len(FORMATS)} row formats]" in README.read_text(encoding="utf-8")


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150
