"""Texts and prompts that are too long for a classifier or a reward model do not end a run; they are counted."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from evaluation_world import save_classifier
from plaudit.config.load import load_recipe
from plaudit.runner import run

SHORT = ["rl.iterations=2", "rl.epochs=1", "rl.minibatches=1", "rl.held_out_prompts=0", "rl.evaluate_every=null"]


def lines_of(folder: Path, own: Path, reward: str) -> list[dict[str, Any]]:
    """Return the metrics of two iterations with a reward, in a run of their own."""
    model = [f"rl.model={folder}/runs/tiny/sft/model", "rl.value_model=null", "rl.weights=shared", f"output={own}"]
    done = run(load_recipe(str(folder / "recipe.yaml"), [*SHORT, *model, reward]), ["rl"])
    return [json.loads(line) for line in (done / "rl/metrics.jsonl").read_text().splitlines()]


def with_context(model: Path, length: int) -> Path:
    configuration = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(configuration | {"max_position_embeddings": length}))
    return model


def test_a_line_of_metrics_says_which_fraction_of_texts_was_truncated(folder: Path, tmp_path: Path) -> None:
    classifier = with_context(Path(save_classifier(tmp_path / "classifier", ["fine", "rude"])), 8)
    source = f"rl.rewards=[{{name: mood, kind: classifier, path: {classifier}, label: rude}}]"
    fractions = [line["truncated/mood"] for line in lines_of(folder, tmp_path, source)]
    assert len(fractions) == 2
    assert all(0 < fraction < 1 for fraction in fractions)


def test_prompts_that_leave_no_room_in_the_reward_model_are_dropped(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = with_context(Path(shutil.copytree(folder / "runs/tiny/reward/model", tmp_path / "short")), 12)
    with caplog.at_level("INFO"):
        lines = lines_of(folder, tmp_path, f"rl.rewards.0.path={short}")
    assert len(lines) == 2
    assert "rl: prompts with their responses have at most 12 tokens, which all models can read" in caplog.text
    assert "rl: training rows too long: " in caplog.text
