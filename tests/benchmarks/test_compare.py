"""Plaudit's side of the comparisons with TRL trains and counts its training data correctly."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import compare
import pytest
from comparison import materials
from comparison.dialogues import write_dialogues

TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
SIZE = {"vocab_size": 512, "max_position_embeddings": 1024}


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> argparse.Namespace:
    """Compare on a few dialogues, with a tiny model."""
    monkeypatch.setattr(materials, "VOCABULARY", 512)
    monkeypatch.setattr(materials, "FOLDER", tmp_path)
    monkeypatch.setitem(materials.SHAPES, "tiny", ("llama", TINY | SIZE))
    write_dialogues(tmp_path / "dialogues.jsonl.gz", count=48)
    sizes = {"pairs": None, "batch": 4, "peer_batch": None, "episodes": 8, "responses": None, "new_tokens": 4}
    machine = {"device": "cpu", "threads": 1, "model": "tiny", "data": tmp_path / "dialogues.jsonl.gz"}
    return argparse.Namespace(**sizes, **machine)


def run(task: str, options: argparse.Namespace, folder: Path) -> tuple[dict[str, int], list[dict[str, Any]]]:
    """Run Plaudit's side; return its counts, and the token ids that TRL would get."""
    options.task = task
    models = materials.make_models(options.data, options.model)
    result = compare.run_side(sys.executable, "plaudit_side", compare.write_task(options, models, folder))
    rows = [json.loads(line) for line in (folder / "ids.jsonl").read_text(encoding="utf-8").splitlines()]
    return result, rows


def test_reward_trains_on_prompt_and_response_of_every_pair(options: argparse.Namespace, tmp_path: Path) -> None:
    options.pairs = 8
    counted, rows = run("reward", options, tmp_path)
    assert counted["updates"] == 2
    assert counted["tokens"] == sum(len(row["prompt"]) + len(ids) for row in rows for ids in row["responses"])


def test_ppo_trains_on_every_sampled_token_in_each_epoch(options: argparse.Namespace, tmp_path: Path) -> None:
    counted, rows = run("ppo", options, tmp_path)
    assert counted["episodes"] == len(rows) == 8
    assert counted["updates"] == 16
    assert counted["tokens"] == 4 * 8 * 4
