"""What becomes of objects in a recipe written in Python: files, names and numbers."""

import json
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM

from plaudit.config.load import load_recipe
from plaudit.config.python_values import FOLDER, plain_recipe
from plaudit.errors import PlauditError
from tiny_models import tiny_causal_model

ROWS = [{"prompt": f"w{number}", "response": " good"} for number in range(12)]


def rows_file(output: Path) -> Path:
    recipe = {"output": str(output), "sft": {"data": {"sources": [ROWS]}}}
    return Path(plain_recipe(recipe, "runs")["sft"]["data"]["sources"][0])


def saved_model(output: Path, model: Any) -> Path:
    return Path(plain_recipe({"output": str(output), "sft": {"model": model}}, "runs")["sft"]["model"])


def test_rows_that_were_not_written_completely_are_not_found_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bytes = Path.write_bytes

    def full_disk(file: Path, content: bytes) -> int:
        write_bytes(file, content[: len(content) // 2])
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full_disk)
        with pytest.raises(OSError, match="no space"):
            rows_file(tmp_path)
    assert list((tmp_path / FOLDER).iterdir()) == []
    assert [json.loads(line) for line in rows_file(tmp_path).read_text(encoding="utf-8").splitlines()] == ROWS


def test_a_model_has_its_final_name_only_when_it_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, replace = tiny_causal_model("llama"), os.replace
    seen: list[tuple[set[str], set[str]]] = []

    def observed(complete: Path, name: Path) -> None:
        before = {path.name for path in name.parent.iterdir() if not path.name.startswith("unfinished-")}
        seen.append((before, {path.name for path in complete.iterdir()}))
        replace(complete, name)

    monkeypatch.setattr(os, "replace", observed)
    folder = saved_model(tmp_path, model)
    (before, complete) = seen[-1]
    assert before == set()
    assert complete == {path.name for path in folder.iterdir()} >= {"config.json", "model.safetensors"}
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [folder.name]
    assert folder.stat().st_mode & 0o055 == (tmp_path / FOLDER).stat().st_mode & 0o055


def test_a_model_that_another_process_has_just_saved_is_used(tmp_path: Path) -> None:
    model = tiny_causal_model("llama")
    folder = saved_model(tmp_path, model)
    (folder / "of-the-other").touch()
    assert saved_model(tmp_path, model) == folder
    assert (folder / "of-the-other").exists()
    saved = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    assert all(torch.equal(saved[name], tensor) for name, tensor in model.state_dict().items())
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [folder.name]


class Constant:
    """Gives every response the same score."""

    def __init__(self, score: float) -> None:
        self.score = score

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return [self.score] * len(responses)


def closure(score: float) -> Any:
    def inner(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return [score] * len(responses)

    return inner


def test_rewards_with_the_same_derived_name_are_numbered() -> None:
    named = {"name": "inner-2", "kind": "function", "function": closure(0)}
    given = [closure(1), closure(2), Constant(1), Constant(2), partial(closure(3)), named]
    recipe = load_recipe("quickstart", [{"rl.rewards": given}])
    assert recipe.rl is not None
    assert [reward.name for reward in recipe.rl.rewards] == [
        "inner",
        "inner-3",
        "Constant",
        "Constant-2",
        "inner-4",
        "inner-2",
    ]


def test_scalars_of_numpy_and_torch_are_numbers() -> None:
    changes = {"seed": numpy.int64(3), "rl.iterations": torch.tensor(5), "rl.kl.coefficient": numpy.float32(0.5)}
    recipe = load_recipe("quickstart", [changes, {"sft.epochs": numpy.float64(2.0)}])
    assert recipe.rl is not None
    assert (recipe.seed, recipe.rl.iterations, recipe.rl.kl.coefficient) == (3, 5, 0.5)
    assert type(recipe.seed) is int
    with pytest.raises(PlauditError, match=r"seed=.*: expected a whole number, not 1\.5"):
        load_recipe("quickstart", [{"seed": numpy.float64(1.5)}])


def test_rows_may_be_the_path_of_a_source_with_other_keys(tmp_path: Path) -> None:
    source = {"path": ROWS, "weight": 2, "format": "prompt_response", "columns": {"prompt": "prompt"}}
    recipe = {"output": str(tmp_path), "sft": {"data": {"sources": [source]}}}
    (plain,) = plain_recipe(recipe, "runs")["sft"]["data"]["sources"]
    assert plain == source | {"path": str(rows_file(tmp_path))}
