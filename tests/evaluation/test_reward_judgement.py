"""The baselines of a reward model use the same comparisons and the same split."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from loaded_rows import load_rows
from plaudit.config.load import load_recipe
from plaudit.data.rows import RankingRow
from plaudit.data.tokenization import tokenize_rows
from plaudit.evaluation.preference_baselines import preference_baselines
from plaudit.runner import run
from tiny_runs import tiny_recipe


def conversation(number: int) -> dict[str, object]:
    """Return a tree in which two prompts have ranked replies, so that one line gives two rows."""

    def reply(text: str, rank: int, replies: list[object]) -> dict[str, object]:
        return {"text": text, "role": "assistant", "rank": rank, "replies": replies}

    deeper = {
        "text": f"w{number % 24} w2",
        "role": "prompter",
        "replies": [reply("w5 bad", 1, []), reply("good", 0, [])],
    }
    top = [reply("w3 good w4", 0, [deeper]), reply("bad", 1, [])]
    prompt = {"text": f"w1 w{number % 24} w{number // 24}", "role": "prompter", "replies": top}
    return {"message_tree_id": str(number), "tree_state": "ready_for_export", "prompt": prompt}


def test_rows_of_one_line_stay_on_their_sides(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path)
    trees = tmp_path / "trees.jsonl"
    trees.write_text("".join(json.dumps(conversation(number)) + "\n" for number in range(60)))
    loaded = load_recipe(
        str(recipe),
        [f"reward.data.sources=[{trees}]", "reward.data.held_out_fraction=0.3", "reward.data.max_unknown_fraction=1.0"],
    )
    folder = run(loaded, ["pretrain", "sft", "reward"])
    result = json.loads((folder / "reward" / "result.json").read_text())
    assert loaded.reward is not None
    rows = load_rows(loaded.reward.data, RankingRow, None, loaded.seed)
    train, held_out = ([row for row in part if isinstance(row, RankingRow)] for part in (rows.train, rows.held_out))
    lines = {row.origin.line for row in train} & {row.origin.line for row in held_out}
    assert lines, "no line has rows on both sides: the test would see nothing"
    config = loaded.reward.data
    tokenizer = AutoTokenizer.from_pretrained(folder / "reward" / "model")
    expected = preference_baselines(*(tokenize_rows(part, tokenizer, config, 64).rows for part in (train, held_out)))
    for unit in ("tokens", "characters"):
        found = result[f"baseline/length_{unit}/accuracy"]
        assert found == pytest.approx(expected[f"length_{unit}"]["accuracy"])
    assert result["baseline/length_tokens/pairs"] == len(held_out)
    assert result["baseline/bag_of_words/accuracy"] == pytest.approx(expected["bag_of_words"]["accuracy"])
    assert result["held_out_accuracy/accuracy"] == pytest.approx(result["held_out/accuracy"])


def test_the_calibration_adds_up_to_accuracy_and_calibration_error(tmp_path: Path) -> None:
    folder = run(
        load_recipe(str(tiny_recipe(tmp_path)), ["reward.data.held_out_fraction=0.3"]), ["pretrain", "sft", "reward"]
    )
    result = json.loads((folder / "reward" / "result.json").read_text())
    bins, pairs = result["calibration"], result["held_out/pairs"]
    assert sum(row["pairs"] for row in bins) == pairs
    assert sum(row["pairs"] * row["right"] for row in bins) / pairs == pytest.approx(result["held_out/accuracy"])
    error = sum(row["pairs"] * abs(row["right"] - row["predicted"]) for row in bins) / pairs
    assert error == pytest.approx(result["held_out/calibration_error"], abs=1e-6)
    assert all(row["low"] <= row["right"] <= row["high"] for row in bins)
