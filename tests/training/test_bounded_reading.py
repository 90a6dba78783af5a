"""A start reads the rows that its steps and measurements need, however large the data are."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.batching.trees import Example, PromptTree
from plaudit.config.load import load_recipe
from plaudit.config.schema import ModelConfig
from plaudit.data.selection import Mapped
from plaudit.data.store.rows import StoredRows
from plaudit.data.store.trees import StoredTrees
from plaudit.models.reward_model import ScoreScale, load_reward_model
from plaudit.runner import run
from plaudit.training import reference_log_probabilities, reward, sample_completions
from plaudit.training.preference_examples import Preference, WithMismatched
from tiny_runs import FRESH, tiny_recipe

SMALL, LARGE = 300, 900
STEPS = {
    "sft": ["sft.max_steps=2", "sft.max_held_out=5"],
    "reward": ["reward.max_steps=2", "reward.max_held_out=5"],
    "dpo": ["dpo.max_steps=2", "dpo.max_held_out=5"],
    "kto": ["dpo.max_steps=2", "dpo.max_held_out=5", "dpo.loss=kto"],
    "rl": ["rl.iterations=2", "rl.prompts_per_iteration=4", "rl.held_out_prompts=2"],
    "evaluate": [],
}


def recipe_of(folder: Path, rows: int) -> Path:
    """Write a recipe whose stages start from random weights, and data in which no two prompts are equal."""
    folder.mkdir()
    fresh = {"fresh": FRESH, "tokenizer": str(folder / "tokenizer")}
    judged = {"name": "words", "kind": "function", "function": "segment_rewards:first_word"}
    changes = {f"{stage}__model": fresh for stage in ("sft", "reward", "dpo", "rl")}
    evaluate = {
        "models": {"one": fresh, "other": fresh},
        "baseline": "one",
        "prompts": {"sources": [str(folder / "demonstrations.jsonl")]},
        "rewards": [judged],
        "max_prompts": 4,
        "generation": {"max_new_tokens": 4},
    }
    recipe = tiny_recipe(folder, rl__rewards=[judged], rl__value_model=None, evaluate=evaluate, **changes)
    words = [f"w{a} w{b} w{c}" for a in range(10) for b in range(10) for c in range(9)][:rows]
    demonstrations = [{"prompt": text, "response": text} for text in words]
    rankings = [{"prompt": text, "responses": [text, "good", "bad"], "ranks": [2, 0, 1]} for text in words]
    for name, records in (("demonstrations", demonstrations), ("rankings", rankings)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return recipe


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Recipes with few and with many rows."""
    folder = tmp_path_factory.mktemp("bounded")
    return [recipe_of(folder / str(rows), rows) for rows in (SMALL, LARGE)]


@pytest.mark.parametrize("name", STEPS)
def test_a_second_start_reads_what_its_steps_need(
    recipes: list[Path], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "BASELINE_ROWS", 10)
    monkeypatch.setattr(reward, "NORMALIZATION_RESPONSES", 10)
    monkeypatch.setattr(reference_log_probabilities, "TREES_AT_ONCE", 10)
    read: Counter[str] = Counter()
    for kind in (StoredRows, StoredTrees):
        original = kind.item

        def counted(self: Any, index: int, kind: type = kind, original: Any = original) -> Any:
            read[kind.__name__] += 1
            return original(self, index)

        monkeypatch.setattr(kind, "item", counted)
    found = []
    for recipe in recipes:
        stage = "dpo" if name == "kto" else name
        for start in ("first", "second"):  # the first builds the stores
            read.clear()
            run(load_recipe(str(recipe), [f"name={name}-{start}", *STEPS[name]]), [stage])
        found.append(dict(read))
    assert found[0] == found[1]
    assert found[1]["StoredRows"] < SMALL


def test_a_reward_model_says_what_set_its_scale_and_its_baselines(
    recipes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reward, "BASELINE_ROWS", 10)
    monkeypatch.setattr(reward, "NORMALIZATION_RESPONSES", 11)
    folder = run(load_recipe(str(recipes[0]), ["name=counted", *STEPS["reward"]]), ["reward"]) / "reward"
    result, scale = (json.loads((folder / name).read_text()) for name in ("result.json", "model/score_scale.json"))
    assert (result["baseline_rows"], result["scale_responses"], scale["responses"]) == (
        10,
        9,
        9,
    )  # three responses to a prompt
    model = load_reward_model(ModelConfig(path=str(folder / "model")), torch.device("cpu"))
    assert model.scale == ScoreScale(scale["gain"], scale["bias"])


def test_references_in_several_parts_are_those_of_all_at_once(
    recipes: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = []
    for at_once in (4096, 3):
        monkeypatch.setattr(reference_log_probabilities, "TREES_AT_ONCE", at_once)
        folder = run(load_recipe(str(recipes[0]), [f"name={at_once}-at-once", *STEPS["kto"]]), ["dpo"])
        metrics = (folder / "dpo" / "metrics.jsonl").read_text().splitlines()
        lines.append([json.loads(line)["loss"] for line in metrics if "loss" in json.loads(line)])
    assert lines[0] == pytest.approx(lines[1], rel=1e-5)


def test_one_prompt_alone_is_not_compared_with_all_rows() -> None:
    read = []

    def example(number: int) -> Example[Preference]:
        read.append(number)
        return Example(PromptTree((4,), ((5 + number, 1),)), Preference((0,)))

    paired = WithMismatched(Mapped(range(2000), example), 64, seed=0)
    assert paired[7].target.mismatched is not None
    assert paired[7].target.mismatched.tree == PromptTree((4,), ((12, 1),))
    assert len(read) < 600


def test_sample_prompts_are_looked_for_among_the_first_rows(
    recipes: list[Path], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sample_completions, "SEARCHED_ROWS", 20)
    settings = ["sft.max_steps=1", "sft.sample_tokens=62", "sft.data.held_out_fraction=0"]
    run(load_recipe(str(recipes[1]), ["name=no-room", *settings]), ["sft"])
    assert "none of the first 20 prompts leaves room for sample_tokens=62" in caplog.text
