"""Recipes written in Python: dictionaries with functions and rows, and what a run returns."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

import plaudit
from plaudit.config.load import load_recipe, shipped_recipes
from plaudit.config.python_values import plain_recipe
from plaudit.config.schema.rewards import REWARD_KINDS
from plaudit.config.yaml_text import parse_yaml
from plaudit.errors import PlauditError
from plaudit.plugins import import_function
from tiny_models import tiny_causal_model
from tiny_runs import FRESH, tiny_recipe, write_tokenizer

ROWS = [{"prompt": f"w{number}", "response": " good" * (1 + number % 3)} for number in range(12)]


def count_good(prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
    """Return how often each response says good."""
    return [float(response.count("good")) for response in responses]


def test_rows_become_a_file_that_is_named_after_its_content(tmp_path: Path) -> None:
    recipe = {"name": "mine", "output": str(tmp_path), "sft": {"data": {"sources": [ROWS]}}}
    (first,) = plain_recipe(recipe, "runs")["sft"]["data"]["sources"]
    assert [json.loads(line) for line in Path(first).read_text(encoding="utf-8").splitlines()] == ROWS
    frame = {"name": "mine", "output": str(tmp_path), "sft": {"data": {"sources": [pandas.DataFrame(ROWS)]}}}
    assert plain_recipe(frame, "runs")["sft"]["data"]["sources"] == [first]
    recipe["sft"] = {"data": {"sources": [ROWS[1:]]}}
    assert plain_recipe(recipe, "runs")["sft"]["data"]["sources"] != [first]


def test_missing_values_of_a_data_frame_are_null(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"prompt": ["a", None], "weight": [1.5, None]})
    recipe = {"output": str(tmp_path), "rl": {"prompts": {"sources": [frame]}}}
    (file,) = plain_recipe(recipe, "runs")["rl"]["prompts"]["sources"]
    lines = [json.loads(line) for line in Path(file).read_text(encoding="utf-8").splitlines()]
    assert lines == [{"prompt": "a", "weight": 1.5}, {"prompt": None, "weight": None}]


def test_a_function_becomes_its_name() -> None:
    recipe = load_recipe("quickstart", [{"rl.rewards": [{"name": "good", "kind": "function", "function": count_good}]}])
    assert recipe.rl is not None
    assert recipe.model_dump()["rl"]["rewards"][0]["function"] == f"{__name__}:count_good"


@pytest.mark.parametrize(
    "value, told",
    [
        (lambda prompts, responses: [0.0], "rl.rewards.0.function: <lambda> cannot be imported by its name"),
        (json.JSONEncoder().encode, "rl.rewards.0.function: JSONEncoder.encode cannot be imported by its name"),
    ],
)
def test_functions_without_a_name_are_refused(value: Any, told: str) -> None:
    reward = {"name": "mine", "kind": "function", "function": value}
    with pytest.raises(PlauditError, match=told):
        load_recipe("quickstart", [{"rl.rewards": [reward]}])


@pytest.mark.parametrize(
    "rows, told",
    [
        ([{"prompt": "a"}, "b"], "row 2 is of type"),
        ([{"prompt": object()}], "row 1: a value of type object"),
        ([{"prompt": float("nan")}], "row 1: Out of range float"),
        (5, "expected a path or rows, not int"),
    ],
)
def test_rows_that_cannot_be_written_are_refused(rows: Any, told: str, tmp_path: Path) -> None:
    recipe = {"name": "mine", "output": str(tmp_path), "sft": {"model": "m", "data": {"sources": [rows]}}}
    with pytest.raises(PlauditError, match=f"sft.data.sources.0: {told}"):
        load_recipe(recipe)


def test_models_and_tokenizers_become_folders_that_give_the_same_model(tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "words")
    model, tokenizer = tiny_causal_model("llama"), AutoTokenizer.from_pretrained(tmp_path / "words")
    recipe = {"output": str(tmp_path), "sft": {"model": (model, tokenizer)}}
    folder = plain_recipe(recipe, "runs")["sft"]["model"]
    assert plain_recipe(recipe, "runs")["sft"]["model"] == folder
    saved = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(saved.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert AutoTokenizer.from_pretrained(folder).get_vocab() == tokenizer.get_vocab()
    alone = {"output": str(tmp_path), "sft": {"model": {"path": model, "tokenizer": tokenizer}}}
    paths = plain_recipe(alone, "runs")["sft"]["model"]
    assert AutoTokenizer.from_pretrained(paths["tokenizer"]).get_vocab() == tokenizer.get_vocab()
    assert paths["path"] not in (folder, paths["tokenizer"])


def test_a_model_with_adapters_must_be_merged_first(tmp_path: Path) -> None:
    adapted = get_peft_model(tiny_causal_model("llama"), PeftLoraConfig(target_modules=["q_proj"]))
    with pytest.raises(PlauditError, match=r"sft.model: this model has adapters; give model.merge_and_unload\(\)"):
        plain_recipe({"output": str(tmp_path), "sft": {"model": adapted}}, "runs")


def test_a_recipe_can_be_loaded_again() -> None:
    recipe = load_recipe("quickstart", ["seed=3"])
    assert load_recipe(recipe) == recipe
    assert load_recipe(recipe, [{"seed": 4}]).seed == 4


def test_a_run_from_python_is_an_ordinary_run(tmp_path: Path) -> None:
    tiny_recipe(tmp_path)
    model = {"fresh": FRESH, "tokenizer": str(tmp_path / "tokenizer")}
    recipe: dict[str, Any] = {"name": "mine", "output": str(tmp_path / "runs"), "device": "cpu"}
    recipe["sft"] = {"model": model, "data": {"sources": [ROWS]}, "max_steps": 2, "batch_size": 4, "samples": 0}
    seen: list[tuple[str, float]] = []
    run = plaudit.run(recipe, on_metrics=lambda stage, line: seen.append((stage, line["step"])))
    assert run.finished == ["sft"]
    assert seen == [("sft", line["step"]) for line in run.metrics("sft")]
    assert run.model() == run.model("sft") == tmp_path / "runs/mine/sft/model"
    assert [line["step"] for line in run.metrics("sft")][-1] == 2
    assert run.result("sft")["seconds"] > 0
    with pytest.raises(PlauditError, match=r"no model of rl; .*: sft"):
        run.model("rl")
    with pytest.raises(PlauditError, match="evaluate has not finished"):
        run.summary()
    kept = yaml.safe_load((tmp_path / "runs/mine/config.yaml").read_text(encoding="utf-8"))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    assert repr(plaudit.run(str(tmp_path / "again.yaml"))) == repr(run) == f"Run({str(run.folder)!r}, finished: sft)"


def test_a_faulty_function_for_metrics_is_named(tmp_path: Path) -> None:
    def broken(stage: str, line: Mapping[str, float]) -> None:
        raise KeyError("gone")

    with pytest.raises(PlauditError, match=r"on_metrics raised KeyError at .*test_python_recipes\.py:\d+: 'gone'"):
        plaudit.sft(
            str(tiny_recipe(tmp_path)),
            {"sft.model": {"fresh": FRESH, "tokenizer": str(tmp_path / "tokenizer")}},
            on_metrics=broken,
        )


def test_a_function_of_a_script_is_not_found_elsewhere() -> None:
    with pytest.raises(PlauditError, match="gone was defined in a script or notebook"):
        import_function("__main__:gone", "rl.rewards.0")


@pytest.mark.parametrize("name", shipped_recipes())
def test_shipped_recipes_follow_the_schema_for_editors(name: str) -> None:
    validator = Draft202012Validator(plaudit.Recipe.model_json_schema())
    recipe = parse_yaml(shipped_recipes()[name], name)
    assert not [error.message for error in validator.iter_errors(recipe)]
    faults = validator.iter_errors(recipe | {"sead": 1, "device": "gpu"})
    assert sorted(error.json_path for error in faults) == ["$", "$.device"]


def test_the_schema_for_editors_knows_every_kind_and_loss() -> None:
    validator = Draft202012Validator(plaudit.Recipe.model_json_schema())
    recipe = parse_yaml(shipped_recipes()["quickstart"], "quickstart")
    for kind in REWARD_KINDS:
        recipe["rl"]["rewards"] = [{"name": "mine", "kind": kind}]
        needed = [field for field in REWARD_KINDS[kind].model_fields.values() if field.is_required()]
        assert validator.is_valid(recipe) == (len(needed) == 1), kind
    recipe["rl"] |= {"rewards": [{"name": "mine", "kind": "nonsense"}]}
    assert not validator.is_valid(recipe)
    recipe["rl"] |= {
        "rewards": [{"name": "mine", "kind": "function", "function": "a:b"}],
        "policy_loss": "my_code:loss",
    }
    assert validator.is_valid(recipe)
    recipe["rl"]["policy_loss"] = "ppoo"
    assert not validator.is_valid(recipe)
