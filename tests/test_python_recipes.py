"""Recipes written in Python: dictionaries with functions and rows, and what a run returns."""

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
import yaml
from jsonschema import Draft202012Validator
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import plaudit
from command_line import run_command
from plaudit.config.load import load_recipe, shipped_recipes
from plaudit.config.python_values import plain_recipe
from plaudit.config.schema.rewards import REWARD_KINDS, FunctionReward
from plaudit.config.yaml_text import parse_yaml
from plaudit.errors import PlauditError
from plaudit.plugins import import_function
from plaudit.rewards.function import load_function
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


class Constant:
    """Gives every response the same score."""

    def __init__(self, score: float) -> None:
        self.score = score

    def __call__(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return self.scores(prompts, responses)

    def scores(self, prompts: Sequence[str], responses: Sequence[str]) -> list[float]:
        return [self.score] * len(responses)


def closure(score: float) -> Any:
    return lambda prompts, responses: [score] * len(responses)


def test_functions_without_a_name_to_import_stay_with_the_recipe() -> None:
    given = [closure(1), closure(2), Constant(3), Constant(4).scores, partial(closure(5)), count_good]
    recipe = load_recipe("quickstart", [{"rl.rewards": given}])
    assert recipe.rl is not None
    rewards = [reward for reward in recipe.rl.rewards if isinstance(reward, FunctionReward)]
    line, call, method = (code.co_firstlineno for code in CODES)
    assert [(reward.name, reward.function.partition(", code ")[0]) for reward in rewards] == [
        ("reward-1", f"python: closure.<locals>.<lambda> (test_python_recipes.py:{line})"),
        ("reward-2", f"python: closure.<locals>.<lambda> (test_python_recipes.py:{line}) #2"),
        ("Constant", f"python: Constant (test_python_recipes.py:{call})"),
        ("scores", f"python: Constant.scores (test_python_recipes.py:{method})"),
        ("reward-5", f"python: closure.<locals>.<lambda> (test_python_recipes.py:{line}) #3"),
        ("count_good", f"{__name__}:count_good"),
    ]
    again = load_recipe(recipe).rl
    assert again is not None
    for both in zip(rewards, again.rewards, strict=True):
        scores = {load_function(reward)(["a"], ["b"])[0] for reward in both if isinstance(reward, FunctionReward)}
        assert scores == {[1, 2, 3, 4, 5, 0][rewards.index(both[0])]}


CODES = (closure(0).__code__, Constant.__call__.__code__, Constant.scores.__code__)


def test_functions_in_other_places_are_refused() -> None:
    with pytest.raises(PlauditError, match=r"rl\.model: expected .*, not Linear"):
        load_recipe("quickstart", [{"rl.model": torch.nn.Linear(1, 1)}])
    with pytest.raises(PlauditError, match=r"seed: expected a whole number, not <lambda>"):
        load_recipe("quickstart", [{"seed": lambda: 3}])
    with pytest.raises(PlauditError, match="unknown key; did you mean seed"):
        load_recipe("quickstart", [{"sead": lambda: 3}])


def test_a_run_with_a_lambda_continues_where_the_lambda_is_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_recipe(tmp_path)
    model = {"fresh": FRESH, "tokenizer": str(tmp_path / "tokenizer")}
    rl = {"model": model, "prompts": {"sources": [[{"prompt": "w1"}, {"prompt": "w2"}] * 8]}, "advantages": "grpo"}
    rl |= {"iterations": 2, "prompts_per_iteration": 4, "responses_per_prompt": 4, "kl": {"placement": "loss"}}
    base: dict[str, Any] = {"output": str(tmp_path / "runs"), "device": "cpu", "rl": rl}
    base["rl"] |= {"held_out_prompts": 0, "generation": {"max_new_tokens": 4}}

    def recipe(name: str, reward: Any) -> dict[str, Any]:
        return base | {"name": name, "rl": base["rl"] | {"rewards": [reward]}}

    whole = plaudit.run(recipe("whole", {"name": "reward-1", "kind": "function", "function": count_good}))
    lines = plaudit.iterate(recipe("parts", lambda prompts, responses: [text.count("good") for text in responses]))
    assert next(lines)[1]["step"] == 1
    lines.close()
    parts = plaudit.Run(tmp_path / "runs/parts")
    assert parts.finished == []
    assert (parts.folder / "rl/checkpoints").is_dir()
    config = parts.folder / "config.yaml"
    code, _, error = run_command(capsys, monkeypatch, "run", str(config))
    assert (code, error.count("\n")) == (2, 1)
    assert "this run needs the function " in error
    assert "<lambda> (test_python_recipes.py:" in error
    moved = lambda prompts, responses: [text.count("good") for text in responses]  # noqa: E731
    with pytest.raises(PlauditError, match=r"rl\.rewards\.0\.function: .*: changed since the run began"):
        plaudit.run(recipe("parts", Constant(1)))
    assert plaudit.run(recipe("parts", moved)).finished == ["rl"]
    assert f"{moved.__code__.co_firstlineno})" in config.read_text()
    weights = [load_file(run.model("rl") / "model.safetensors") for run in (whole, parts)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


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
    assert load_recipe(recipe, [{"seed": 4}]).seed == load_recipe(recipe, {"seed": 4}).seed == 4
    assert load_recipe(recipe, "seed=5").seed == 5


@pytest.mark.parametrize("source", [None, [1], 5])
def test_what_cannot_be_a_recipe_or_a_run_is_refused(source: Any, tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match="not a recipe; give a YAML file"):
        plaudit.run(source)
    with pytest.raises(PlauditError, match="expected the folder of a run"):
        plaudit.Run(source)
    with pytest.raises(PlauditError, match=r"not the folder of a run; name one that holds a config\.yaml"):
        plaudit.Run(tmp_path)


@pytest.mark.parametrize(
    "override, expected",
    [
        ({"rl.model": (1, 2)}, r"rl\.model.*: expected a path, .* pair of model and tokenizer, not \[1, 2\]"),
        ({"rl.rewards": [5]}, r"rl\.rewards\.0: expected keys and values \(in Python also a function\), not 5"),
    ],
)
def test_messages_name_what_python_accepts(override: dict[str, Any], expected: str) -> None:
    with pytest.raises(PlauditError, match=expected):
        load_recipe("quickstart", override)


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
    assert run.metrics("rl") == []
    with pytest.raises(PlauditError, match="did you mean sft"):
        run.metrics("sfft")
    with pytest.raises(PlauditError, match="evaluate has not finished"):
        run.summary()
    kept = yaml.safe_load((tmp_path / "runs/mine/config.yaml").read_text(encoding="utf-8"))
    (tmp_path / "again.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    assert repr(plaudit.run(str(tmp_path / "again.yaml"))) == repr(run) == f"Run({str(run.folder)!r}, finished: sft)"


def small_sft(folder: Path, name: str) -> dict[str, Any]:
    """Return a recipe with four steps."""
    write_tokenizer(folder / "tokenizer")
    model = {"fresh": FRESH, "tokenizer": str(folder / "tokenizer")}
    sft = {"model": model, "data": {"sources": [ROWS]}, "max_steps": 4, "batch_size": 4, "samples": 0}
    return {"name": name, "output": str(folder / "runs"), "device": "cpu", "sft": sft}


def test_a_stopped_run_continues_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = plaudit.run(small_sft(tmp_path, "whole"))
    seen: list[float] = []

    def stop(stage: str, line: Mapping[str, float]) -> None:
        seen.append(line["step"])
        if line["step"] == 2:
            raise plaudit.Stop

    run = plaudit.sft(small_sft(tmp_path, "stopped"), on_metrics=stop)
    assert repr(run).endswith("finished: nothing; unfinished: sft)")
    assert "<td>sft</td><td>unfinished</td>" in run._repr_html_()
    assert next(reversed(seen)) == run.metrics("sft")[-1]["step"] == 2
    for name, line in plaudit.iterate(small_sft(tmp_path, "stopped"), only="sft"):
        assert name == "sft"
        seen.append(line["step"])
        if line["step"] == 3:
            break
    assert seen[-2:] == [2, 3]
    code, _, error = run_command(capsys, monkeypatch, "run", str(run.folder / "config.yaml"))
    assert code == 0, error
    assert [line["step"] for line in run.metrics("sft")] == [line["step"] for line in whole.metrics("sft")]
    model, expected = run.load_model().state_dict(), whole.load_model("sft").state_dict()
    assert all(torch.equal(model[name], expected[name]) for name in expected)
    assert run.load_tokenizer().get_vocab() == AutoTokenizer.from_pretrained(run.model()).get_vocab()
    assert list(plaudit.iterate(small_sft(tmp_path, "stopped"))) == []


def test_leaving_at_the_measurements_before_training_trains_nothing(tmp_path: Path) -> None:
    recipe = small_sft(tmp_path, "early")
    recipe["sft"]["data"] |= {"held_out_fraction": 0.25}
    for _, line in plaudit.iterate(recipe):
        assert line["step"] == 0
        break
    run = plaudit.Run(tmp_path / "runs/early")
    assert not (run.folder / "sft/checkpoints").exists()
    assert plaudit.run(recipe).finished == ["sft"]
    assert next(iter(run.metrics("sft")))["step"] == 0


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
