"""Everything that a recipe names is checked before the first stage starts."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel

import plaudit.packages
from command_line import run_command
from evaluation_world import save_classifier, save_policy
from model_folders import read_weights, write_weights
from plaudit.config.load import load_recipe
from plaudit.config.places import sections_below
from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.registries.stages import STAGES
from plaudit.runner import run
from plaudit.runs.directory import RunDirectory
from plaudit.stages.preflight import CHECKS, check_before_start
from plaudit.training.rl.roles.build import build_roles
from tiny_runs import tiny_recipe

EVALUATE = (
    "evaluate={models: {sft: stage:sft}, baseline: sft, prompts: {sources: [demonstrations.jsonl]}, "
    "rewards: [{name: preference, kind: model, path: stage:reward}]}"
)
SHORT = "evaluate.generation.max_new_tokens=8"
TOXICITY = "evaluate.toxicity={classifier: gone/a/b, labels: [toxic], activation: sigmoid}"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe whose first three stages are finished."""
    path = tiny_recipe(tmp_path_factory.mktemp("preflight"), pretrain__max_steps=1, sft__max_steps=1)
    run(load_recipe(str(path), ["reward.max_steps=1"]), ["pretrain", "sft", "reward"])
    other = path.parent / "other"
    save_policy(other / "policy", 1)
    save_classifier(other / "vocabulary", ["score"])
    save_classifier(other / "classifier", ["fine", "rude", "fine"])
    shutil.copytree(path.parent / "runs/tiny/reward/model", other / "reward")
    configuration = json.loads((other / "reward/config.json").read_text())
    (other / "reward/config.json").write_text(json.dumps(configuration | {"max_position_embeddings": 16}))
    return path


@pytest.fixture(autouse=True)
def in_its_folder(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(recipe.parent)
    yield
    assert not (recipe.parent / "runs/fresh").exists(), "a stage started"


def problems(recipe: Path, *overrides: str, only: list[str] | None = None, name: str = "fresh") -> list[str]:
    with pytest.raises(PlauditError) as refused:
        run(load_recipe(str(recipe), [*overrides, f"name={name}"]), only)
    return str(refused.value).split("\n")


@pytest.mark.parametrize(
    "overrides, message",
    [
        (["rl.model=gone/sft/model/x"], "rl.model.path: gone/sft/model/x: no such folder; give an existing folder"),
        (["rl.model.tokenizer=gone/a/b"], "rl.model.tokenizer: gone/a/b: no such folder; give an existing folder"),
        (["rl.model=runs/tiny/sft"], "rl.model.path: runs/tiny/sft: no config.json here; give runs/tiny/sft/model"),
        (["rl.value_model=./gone"], "rl.value_model: ./gone: no such folder"),
        (["rl.rewards.0.path=./gone"], "rl.rewards.0.path: ./gone: no such folder"),
        (
            ["rl.rewards.0.path=runs/tiny/sft/model"],
            "rl.rewards.0.path: runs/tiny/sft/model: this language model has no trained reward head",
        ),
        (
            ["rl.value_model=stage:sft"],
            "rl.value_model: stage:sft: the stage sft makes a policy, but a reward model is needed",
        ),
        (
            ["rl.rewards=[{name: e, kind: ensemble, paths: [stage:reward, ./gone]}]"],
            "rl.rewards.0.paths.1: ./gone: no such folder",
        ),
        (
            ["rl.rewards=[{name: c, kind: classifier, path: runs/tiny/sft/model}]"],
            "rl.rewards.0.path: runs/tiny/sft/model: this is not a sequence classifier; name a trained one",
        ),
        (
            ["rl.rewards=[{name: f, kind: function, function: 'nowhere:score'}]"],
            "rl.rewards.0.function: reward source 'f': importing nowhere raised ModuleNotFoundError",
        ),
        (
            ["rl.rewards=[{name: h, kind: http, url: 'http://localhost', authorization: NO_SUCH_KEY}]"],
            "rl.rewards.0.authorization: the environment variable NO_SUCH_KEY is not set; export it",
        ),
        (
            ["rl.generation.engine={kind: vllm, python: /no/such/python}"],
            "rl.generation.engine.python: /no/such/python is not a program; correct the path",
        ),
        (["rl.prompts.sources=[gone.jsonl]"], "rl.prompts.sources.0.path: gone.jsonl: no such file; check the path"),
        (["rl.prompts.sources=[recipe.yaml]"], "rl.prompts.sources.0.path: recipe.yaml: unknown kind of file"),
        (
            ["rl.prompts.sources=[./runs]"],
            "rl.prompts.sources.0.path: runs/tiny: this is a folder in a folder of data; name",
        ),
        (["dpo.data.held_out=[gone.csv]"], "dpo.data.held_out.0.path: gone.csv: no such file"),
        (["dpo.data.sources.0.format=trl_pair"], "dpo.data.sources.0.format: trl_pair: unknown row format; did you"),
        (["rl.policy_loss=nowhere:loss"], "rl.policy_loss: importing nowhere raised ModuleNotFoundError"),
        (["dpo.loss=nowhere:loss"], "dpo.loss: importing nowhere raised ModuleNotFoundError"),
        (["reward.loss=nowhere:loss"], "reward.loss: importing nowhere raised ModuleNotFoundError"),
        *(
            (
                [f"{key}=other/reward"],
                f"{key}.path: other/reward: this is a reward model or classifier, which writes no",
            )
            for key in ("sft.model", "dpo.model", "rl.model")
        ),
        (
            [EVALUATE, "evaluate.models.x=other/reward"],
            "evaluate.models.x.path: other/reward: this is a reward model or",
        ),
        (
            ["rl.generation.max_new_tokens=64"],
            "rl.generation.max_new_tokens: 64 leaves no room for a prompt in the 64 tokens that rl.model (",
        ),
        (
            ["rl.value_model=other/reward", "rl.generation.max_new_tokens=16"],
            "rl.generation.max_new_tokens: 16 leaves no room for a prompt in the 16 tokens that rl.value_model (",
        ),
        (
            ["rl.rewards.0.path=other/vocabulary"],
            "rl.rewards.0.path: mismatched tokenizers: other/vocabulary does not have the vocabulary of",
        ),
        (
            ["rl.value_model=other/vocabulary"],
            "rl.value_model: mismatched tokenizers: other/vocabulary does not have the vocabulary of",
        ),
        (
            [EVALUATE, SHORT, "evaluate.models.x=other/policy"],
            "evaluate.models.x: mismatched tokenizers: other/policy does not have the vocabulary of",
        ),
        (
            [EVALUATE, "evaluate.generation.max_new_tokens=99"],
            "evaluate.generation.max_new_tokens: 99 leaves no room for a prompt in the 64 tokens that evaluate",
        ),
        (
            ["rl.rewards=[{name: c, kind: classifier, path: other/classifier, label: bad}]"],
            "rl.rewards.0.path: there is no label 'bad'; choose one of the classifier's labels: fine, rude, fine",
        ),
        (
            ["rl.rewards=[{name: c, kind: classifier, path: other/classifier, label: fine}]"],
            "rl.rewards.0.path: 2 outputs are called 'fine', correct id2label",
        ),
        (
            [EVALUATE, SHORT, TOXICITY.replace("gone/a/b", "other/classifier")],
            "evaluate.toxicity: there is no label 'toxic'; choose one of the classifier's labels: fine, rude, fine",
        ),
        ([EVALUATE, TOXICITY], "evaluate.toxicity.classifier.path: gone/a/b: no such folder"),
        ([EVALUATE, "evaluate.models.x=stage:sft/model/x", "evaluate.models.y=./y"], "evaluate.models.y.path: ./y: no"),
        (
            ["sft.model.lora.targets=[q_proj, nosuch]"],
            "sft.model.lora.targets: the model has no module 'nosuch'; nearest",
        ),
        (["reward.model.lora.targets=[lm_head]"], "reward.model.lora.targets: the model has no module 'lm_head'; near"),
        (["rl.model.lora.targets=[]"], "rl.model.lora.targets: names no module; write all-linear, or a list of names"),
        (["sft.model={path: other/policy, lora: {targets: '('}}"], "sft.model.lora.targets: '(' is not a regular exp"),
        ([EVALUATE, "report={}", "evaluate.models.sft=gone/a/b"], "evaluate.models.sft.path: gone/a/b: no such folder"),
    ],
)
def test_what_is_missing_is_found_before_the_first_stage(recipe: Path, overrides: list[str], message: str) -> None:
    assert problems(recipe, *overrides)[-1].startswith(message)


def without(recipe: Path, source: str, head: str, **configuration: object) -> str:
    """Copy a model without the weights whose names begin with ``head``."""
    folder = recipe.parent / "other" / f"{source.replace('/', '-')}-without-{head}"
    shutil.copytree(recipe.parent / source, folder, dirs_exist_ok=True)
    write_weights(folder, {name: value for name, value in read_weights(folder).items() if not name.startswith(head)})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | configuration))
    return str(folder)


@pytest.mark.parametrize(
    "overrides, key, source, lost",
    [
        (
            "rl.rewards=[{{name: c, kind: classifier, label: rude, path: {}}}]",
            "rl.rewards.0.path",
            "classifier",
            "score",
        ),
        (
            "evaluate={{models: {{sft: other/policy}}, baseline: sft, prompts: {{sources: [demonstrations.jsonl]}}, "
            "rewards: [{{name: c, kind: classifier, label: rude, path: other/classifier}}], "
            "toxicity: {{classifier: {}, labels: [rude], activation: sigmoid}}}}",
            "evaluate.toxicity.classifier.path",
            "classifier",
            "score",
        ),
        ("rl.rewards.0.path={}", "rl.rewards.0.path", "reward", "score"),
        ("rl.value_model={}", "rl.value_model", "reward", "score"),
        ("rl.rewards.0.path={}", "rl.rewards.0.path", "reward", "model.layers.1"),
        ("rl.model={}", "rl.model.path", "policy", "lm_head"),
        ("dpo.model={}", "dpo.model.path", "policy", "model.layers.0"),
        ("reward.model={}", "reward.model.path", "policy", "model.layers.0"),
    ],
)
def test_weights_that_are_not_in_the_files(recipe: Path, overrides: str, key: str, source: str, lost: str) -> None:
    """Also a head that config.json claims: transformers would make a random one."""
    folder = without(recipe, f"other/{source}", lost)
    line = next(line for line in problems(recipe, overrides.format(folder)) if line.startswith(key))
    assert folder in line
    assert lost in line or "no trained reward head" in line


def test_a_reward_model_may_start_from_a_model_without_a_head(recipe: Path) -> None:
    folder = without(recipe, "other/policy", "lm_head")
    overrides = [f"reward.model={folder}", "rl.rewards.0.path=./gone"]
    assert [line.partition(":")[0] for line in problems(recipe, *overrides)] == ["rl.rewards.0.path"]


def test_a_classifier_with_two_labels_is_no_reward_model(recipe: Path) -> None:
    save_classifier(recipe.parent / "other" / "two", ["bad", "good"])
    [line] = problems(recipe, "rl.rewards.0.path=other/two")
    assert line.startswith("rl.rewards.0.path: other/two: this classifier has 2 labels, but a reward model has one")


def test_every_problem_has_a_line(recipe: Path) -> None:
    found = problems(recipe, "sft.model=./a", "rl.prompts.sources=[b.jsonl]", "rl.value_model=./c")
    assert [line.partition(":")[0] for line in found] == [
        "sft.model.path",
        "rl.prompts.sources.0.path",
        "rl.value_model",
    ]


def test_a_missing_package_is_named(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        assert name == "bitsandbytes"
        return "0.1"

    monkeypatch.setattr(plaudit.packages, "version", version)
    overrides = ["rl.rewards.0.quantization=4bit", "dpo.model.quantization=8bit", "dpo.model.lora={}"]
    found = problems(recipe, *overrides)
    assert found == [
        f"{key}: {bits} needs bitsandbytes>=0.45, found 0.1; install it with: pip install 'plaudit[quantization]'"
        for key, bits in (("dpo.model.quantization", "8bit"), ("rl.rewards.0.quantization", "4bit"))
    ]


def test_a_stage_that_neither_ran_nor_will_run(recipe: Path) -> None:
    [line] = problems(recipe, only=["sft"])
    assert line == (
        "sft.model.path: stage:pretrain: needs the result of pretrain, which is not in "
        f"{recipe.parent}/runs/fresh; run that stage first"
    )


def test_results_of_finished_stages(recipe: Path) -> None:
    """Their files are known; those of stages that have yet to run are not."""
    [line] = problems(recipe, "rl.value_model=stage:reward/member-2/model", only=["rl"], name="tiny")
    assert line.startswith("rl.value_model: stage:reward/member-2/model: there is no ")
    assert line.endswith("/runs/tiny/reward/member-2/model; correct the name, or restart the stage reward")
    wanted = list(load_recipe(str(recipe)).sections())
    loaded = load_recipe(str(recipe), ["rl.value_model=stage:reward/member-2/model", "reward.members=2"])
    check_before_start(loaded, RunDirectory(recipe.parent / "runs/tiny"), wanted, restarted=wanted)


def test_finished_stages_are_not_checked(recipe: Path, tmp_path: Path) -> None:
    shutil.copytree(recipe.parent / "runs/tiny", tmp_path / "runs/tiny")
    loaded = load_recipe(str(recipe), ["pretrain.data.sources=[gone.jsonl]"])
    folder = RunDirectory(tmp_path / "runs/tiny")
    check_before_start(loaded, folder, ["pretrain", "sft"], [])
    with pytest.raises(PlauditError, match=r"^pretrain\.data\.sources\.0\.path: gone\.jsonl: no such file"):
        check_before_start(loaded, folder, ["pretrain", "sft"], ["pretrain"])


def test_the_base_of_an_adapter_must_exist(recipe: Path, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "./base", "task_type": "C"}))
    (tmp_path / "adapter_model.safetensors").touch()
    [line] = problems(recipe, f"dpo.model={tmp_path}")
    assert line == (
        f"dpo.model.path: {tmp_path}: the base model of this adapter: ./base: no such folder; give an existing folder "
        "or a hub name"
    )


def test_a_folder_without_weights(recipe: Path, tmp_path: Path) -> None:
    shutil.copy(recipe.parent / "runs/tiny/sft/model/config.json", tmp_path)
    [line] = problems(recipe, f"dpo.model={tmp_path}")
    assert line.startswith(f"dpo.model.path: {tmp_path}: no weights")


def test_every_mark_has_a_check() -> None:
    named = {
        field.json_schema_extra["names"]
        for _, section in sections_below(Recipe)
        for field in section.model_fields.values()
        if isinstance(field.json_schema_extra, dict) and "names" in field.json_schema_extra
    }
    assert named == CHECKS.keys() - {"file"}


PLUGIN = """
from pydantic import Field
from plaudit.config.schema import Section
from plaudit.config.schema.base import NAMES_FILE
from plaudit.errors import PlauditError
from plaudit.stages.base import Stage
from plaudit.registries.stages import STAGES

class CountConfig(Section):
    files: list[str] = Field(json_schema_extra=NAMES_FILE)
    times: int = 1

class CountStage(Stage[CountConfig]):
    name, title, help, example = "count", "Counted words", "Count.", "plaudit run r.yaml --only count"

    def section(self):
        return CountConfig

    def check(self, config):
        if config.times > 9:
            raise PlauditError("count.times: at most 9")

    def run(self, context):
        return {}

STAGES.register("count", CountStage(), before="evaluate")
"""


def test_marked_keys_and_checks_of_a_new_stage_take_part(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (recipe.parent / "counting.py").write_text(PLUGIN)
    monkeypatch.setattr(sys, "path", list(sys.path))
    try:
        count = {"files": ["recipe.yaml", "gone.txt"], "times": 10}
        found = problems(recipe, "plugins=[counting]", f"count={json.dumps(count)}")
    finally:
        sys.modules.pop("counting", None)
        if "count" in STAGES:
            STAGES.unregister("count")
    assert found == ["count.files.1: gone.txt: no such file; check the path", "count.times: at most 9"]


def test_a_value_model_with_another_vocabulary_is_refused(recipe: Path) -> None:
    """Also where only loading shows it, such as for the result of a stage."""
    overrides = ["rl.model=runs/tiny/sft/model", "rl.value_model=other/vocabulary"]
    config = load_recipe(str(recipe), overrides).rl
    assert config is not None
    with pytest.raises(PlauditError, match=r"^rl\.value_model: mismatched tokenizers: other/vocabulary does not share"):
        build_roles(config, torch.device("cpu"), seed=0)


TIED = {"vocab_size": 30, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 64}
JUDGED = (
    "{models: {sft: other/tied_lm}, baseline: sft, prompts: {sources: [demonstrations.jsonl]}, rewards: [{name: a, "
)


@pytest.fixture(scope="module")
def tied(recipe: Path) -> None:
    """Write a GPT-2 language model and reward model, which differ in score.weight alone because embeddings are tied."""
    config = GPT2Config(**TIED, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    for name, kind in (("tied_lm", GPT2LMHeadModel), ("tied_rm", GPT2ForSequenceClassification)):
        config.id2label = {0: "LABEL_0"}
        kind(config).save_pretrained(recipe.parent / "other" / name)
        shutil.copytree(recipe.parent / "tokenizer", recipe.parent / "other" / name, dirs_exist_ok=True)


@pytest.mark.usefixtures("tied")
@pytest.mark.parametrize(
    "overrides, key, fault",
    [
        *((f"{stage}.model=other/tied_rm", f"{stage}.model.path", "writes no text") for stage in ("sft", "dpo", "rl")),
        ("pretrain.model={path: other/tied_rm}", "pretrain.model.path", "writes no text"),
        ("pretrain.model={path: other/tied_rm, lora: {}}", "pretrain.model.path", "writes no text"),
        (EVALUATE.replace("stage:sft", "other/tied_rm"), "evaluate.models.sft.path", "writes no text"),
        ("rl.rewards.0.path=other/tied_lm", "rl.rewards.0.path", "no trained reward head"),
        ("rl.value_model=other/tied_lm", "rl.value_model", "no trained reward head"),
        (
            "rl.rewards=[{name: e, kind: ensemble, paths: [other/tied_rm, other/tied_lm]}]",
            "rl.rewards.0.paths.1",
            "no trained reward head",
        ),
        ("rl.rewards=[{name: c, kind: classifier, path: other/tied_lm}]", "rl.rewards.0.path", "not a sequence class"),
        (
            f"evaluate={JUDGED}kind: model, path: other/tied_lm}}]}}",
            "evaluate.rewards.0.path",
            "no trained reward head",
        ),
    ],
)
def test_language_models_and_reward_models_are_told_apart(recipe: Path, overrides: str, key: str, fault: str) -> None:
    [line] = [line for line in problems(recipe, overrides) if line.startswith(key)]
    assert fault in line


@pytest.mark.usefixtures("tied")
@pytest.mark.parametrize(
    "arguments, fault",
    [
        (["other/tied_rm"], "this is a reward model or classifier, which writes no text"),
        (["other/tied_lm", "--reward", "other/tied_lm"], "no trained reward head"),
    ],
)
def test_a_chat_tells_them_apart(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, arguments: list[str], fault: str
) -> None:
    code, _, error = run_command(capsys, monkeypatch, "chat", *arguments)
    assert code == 2
    assert fault in error.splitlines()[-1]


LONG, ALL = "rl.prompts.sources=[long.jsonl]", "rl.prompts.sources=[all_long.jsonl]"


@pytest.fixture
def long_prompts(recipe: Path) -> None:
    """Write prompts of 20 tokens: one among shorter ones, and only such."""
    other = recipe.parent / "other"
    if not (other / "narrow").exists():
        save_classifier(other / "narrow", ["score"])
        shutil.copytree(recipe.parent / "runs/tiny/sft/model", other / "short")
    for name in ("narrow", "short"):
        configuration = json.loads((other / name / "config.json").read_text())
        (other / name / "config.json").write_text(json.dumps(configuration | {"max_position_embeddings": 16}))
    lines = [{"prompt": "w1 w2"}] * 5 + [{"prompt": " ".join(["w1"] * 20)}]
    (recipe.parent / "long.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (recipe.parent / "all_long.jsonl").write_text(json.dumps(lines[-1]) + "\n")


@pytest.mark.usefixtures("long_prompts")
@pytest.mark.parametrize(
    "overrides, message",
    [
        (
            [LONG, "rl.value_model=other/reward", "rl.prompts.overlong=error"],
            "rl.prompts: long.jsonl line 6: prompt of 20 tokens with response of 0 exceeds .* the context's 10; ",
        ),
        (
            ["rl.prompts.sources=['all_lon?.jsonl']", "rl.rewards.0.path=other/reward"],
            "rl.prompts: all 1 rows are too long; all_long.jsonl line 1: prompt of 20 tokens",
        ),
        (
            [LONG, "rl.rewards=[{name: c, kind: classifier, path: other/narrow, overlong: error}]"],
            r"rl.rewards.0: long.jsonl line 6: a prompt of 2\d tokens, but the classifier reads 16; shorten pr",
        ),
        (
            [EVALUATE.replace("demonstrations", "all_long"), SHORT, "evaluate.models.x=other/short"],
            "evaluate.prompts: all 1 rows are too long; all_long.jsonl line 1: prompt of 20 tokens",
        ),
    ],
)
def test_prompts_that_a_later_model_cannot_read_are_found_before_the_first_stage(
    recipe: Path, overrides: list[str], message: str
) -> None:
    [line] = problems(recipe, *overrides)
    assert re.match(message, line)


@pytest.mark.usefixtures("long_prompts")
@pytest.mark.parametrize(
    "overrides",
    [
        [LONG, "rl.value_model=other/reward"],
        [ALL, "rl.value_model=other/reward", "rl.prompts.overlong=truncate"],
        [LONG, "rl.rewards=[{name: c, kind: classifier, path: other/narrow}]"],
        [LONG, "rl.rewards=[{name: c, kind: classifier, path: other/narrow, overlong: error, scored_text: response}]"],
        [ALL],
    ],
)
def test_prompts_that_will_be_dropped_cut_or_read_are_no_problem(recipe: Path, overrides: list[str]) -> None:
    wanted = load_recipe(str(recipe), [*overrides, "name=fresh"])
    check_before_start(wanted, RunDirectory(recipe.parent / "runs" / "fresh"), list(wanted.sections()), ())
