"""`plaudit chat` on tiny random models, scripted through standard input."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from plaudit.cli.main import app
from plaudit.config.load import dump, load_recipe
from plaudit.config.schema import EnsembleReward, FreshModel, GenerationConfig, ModelConfig, ModelReward
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy, load_scorer
from plaudit.models.reward_model import ScoreScale, save_reward_model
from plaudit.models.saving import save_model
from plaudit.serving.targets import find_target, named_reward_models
from tiny_runs import FRESH, tiny_recipe

CPU = torch.device("cpu")


def fresh(folder: Path) -> ModelConfig:
    return ModelConfig(fresh=FreshModel.model_validate(FRESH), tokenizer=str(folder / "tokenizer"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs/tiny: models of the stages sft and reward, and a recipe that has rl too."""
    folder = tmp_path_factory.mktemp("chat")
    recipe = tiny_recipe(folder)
    run = folder / "runs" / "tiny"
    policy = load_policy(fresh(folder), CPU)
    save_model(policy.model, policy.tokenizer, run / "sft" / "model")
    for name, gain in (("reward", 2.0), ("other", -2.0)):
        scorer, _ = load_scorer(fresh(folder), CPU, seed=1)
        save_reward_model(scorer.model, scorer.tokenizer, ScoreScale(gain, 0.0), run / name / "model")
    (run / "config.yaml").write_text(dump(load_recipe(str(recipe))))
    return folder


def chat(folder: Path, *arguments: str, lines: list[str]) -> str:
    result = CliRunner().invoke(app, ["chat", *arguments, "--device", "cpu"], input="\n".join(lines) + "\n")
    assert result.exit_code == 0, result.exception
    return result.output


def talk(folder: Path, file: str, *arguments: str, lines: list[str]) -> list[dict[str, Any]]:
    chat(folder, *arguments, lines=[*lines, f"/save {folder / file}"])
    return [json.loads(line) for line in (folder / file).read_text().splitlines()]


def test_a_scripted_conversation_with_a_run(folder: Path) -> None:
    run = folder / "runs" / "tiny"
    other = str(run / "other" / "model")
    lines = ["w1 good", "/why", "/history", "w2", "/undo", "/nonsense", "/quit", "/never"]
    lines.insert(-2, f"/save {folder / 'talk.jsonl'}")
    output = chat(folder, str(run), "--best-of", "4", "--reward", other, "--max-new-tokens", "5", lines=lines)
    [turn] = map(json.loads, (folder / "talk.jsonl").read_text().splitlines())
    assert turn["user"] == "w1 good"
    assert len(turn["candidates"]) == 4
    scores = [candidate["scores"] for candidate in turn["candidates"]]
    assert turn["chosen"] == max(range(4), key=lambda i: scores[i]["reward"])
    for candidate in turn["candidates"]:
        assert candidate["scores"]["other"] == pytest.approx(-candidate["scores"]["reward"], abs=1e-5)
        assert candidate["tokens"] <= 5
    assert sorted(candidate["ranks"]["reward"] for candidate in turn["candidates"]) == [1, 2, 3, 4]
    for expected in ("rank 1 of 4", "(rank 2)", "> w1 good", "removed: w2", "/nonsense: no such command"):
        assert expected in output
    assert output.count(turn["reply"]) >= 2
    assert "/never" not in output


def test_the_same_seed_gives_the_same_replies(folder: Path) -> None:
    run = str(folder / "runs" / "tiny")
    one, two, other = (
        talk(folder, f"talk-{number}.jsonl", run, "--best-of", "2", "--seed", seed, lines=["w1 w2", "w3"])
        for number, seed in enumerate(("1", "1", "2"))
    )
    assert one == two
    assert one != other


def test_a_model_folder_continues_text(folder: Path) -> None:
    model = folder / "runs" / "tiny" / "sft" / "model"
    options = ("--plain", "--temperature", "0", "--max-new-tokens", "3")
    first, second = talk(folder, "plain.jsonl", str(model), *options, lines=["w1 w2", "w1 w2"])
    assert first["reply"] == second["reply"]
    policy = load_policy(ModelConfig(path=str(model)), CPU)
    ids = torch.tensor([policy.tokenizer("w1 w2")["input_ids"]])
    wanted = policy.model.generate(ids, do_sample=False, max_new_tokens=3)[0, ids.shape[1] :]
    assert first["reply"].split() == policy.tokenizer.decode(wanted, skip_special_tokens=True).split()


def test_a_run_is_found_by_name_and_its_latest_stage_answers(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    target = find_target("tiny")
    assert target.model == str(Path("runs/tiny/sft/model"))
    assert [source.name for source in target.rewards] == ["reward"]
    assert target.style == "dialogue"
    later = [folder / "runs" / "tiny" / stage / "model" for stage in ("dpo", "rl")]
    for model in later:
        model.mkdir(parents=True)
        assert find_target("tiny").model == str(model.relative_to(folder))
    for model in later:
        model.rmdir()
    assert find_target("someone/some-model").model == "someone/some-model"


def test_prompt_templates_and_training_lengths(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, rl__prompts__prompt_template="w7 {prompt}", rl__generation__min_new_tokens=4)
    run = tmp_path / "run"
    (run / "rl" / "model").mkdir(parents=True)
    (run / "config.yaml").write_text(dump(load_recipe(str(recipe))))
    target = find_target(str(run))
    assert (target.style, target.data.prompt_template) == ("prompt", "w7 {prompt}")
    assert target.generation.min_new_tokens == 0
    assert [getattr(source, "path", None) for source in target.rewards] == [str(run / "reward" / "model")]
    cut = replace(target, generation=GenerationConfig(top_k=5))
    assert cut.chat_settings(best_of=1, seed=3, plain=True, changes={"temperature": 0.0}).generation.temperature == 0
    settings = target.chat_settings(best_of=2, seed=3, plain=True, changes={"temperature": 0.5})
    assert (settings.style, settings.data.prompt_template, settings.generation.temperature) == (
        "plain",
        "{prompt}",
        0.5,
    )


def test_targets_without_a_model_are_named(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(PlauditError, match="holds neither a run"):
        find_target(str(tmp_path))
    (tmp_path / "config.yaml").write_text(dump(load_recipe(str(folder / "recipe.yaml"))))
    with pytest.raises(PlauditError, match=r"no stage has finished a model.* plaudit run .*config\.yaml$"):
        find_target(str(tmp_path))


def test_an_unknown_name_is_refused_at_once_with_the_nearest_runs(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(PlauditError, match=r"^tiyn: no such run or folder, .*; did you mean tiny\?$"):
        find_target("tiyn")
    with pytest.raises(PlauditError, match=r"^else: no such run or folder, .*; runs in runs/: tiny$"):
        find_target("else")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PlauditError, match=r"^else: .*; there is no run in runs/; give the folder of a run"):
        find_target("else")
    monkeypatch.setattr("plaudit.serving.targets.is_on_hub", lambda name: name == "gpt2")
    assert find_target("gpt2").model == "gpt2"


def test_reward_models_are_named_by_folder_while_names_differ() -> None:
    names = [
        source.name
        for source in named_reward_models(["a/reward/model", "runs/b", "org/c", "other/c", "model"], ["reward"])
    ]
    assert names == ["a/reward/model", "b", "org/c", "other/c", "model"]


def test_an_ensemble_scores_with_all_members(tmp_path: Path) -> None:
    folders = [tmp_path / "run" / "reward" / name / "model" for name in ("", "member-1", "member-2", "member-10")]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    source = named_reward_models([str(tmp_path / "run")], [])[0]
    assert isinstance(source, EnsembleReward)
    assert (source.name, source.paths) == ("run", [str(folder) for folder in folders[1:]])


def test_a_reward_is_found_by_the_name_of_its_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    [source] = named_reward_models(["tiny"], [])
    assert source == ModelReward(name="tiny", path=str(Path("runs/tiny/reward/model")))
    chat(folder, "runs/tiny/sft/model", "--reward", "tiny", "--best-of", "2", "--max-new-tokens", "4", lines=["w1 w2"])
    error = CliRunner().invoke(app, ["chat", "runs/tiny/sft/model", "--reward", "tiyn"]).exception
    assert isinstance(error, PlauditError)
    assert "tiyn: no such run or folder, " in str(error)
    shutil.copytree("runs/tiny/sft", "runs/second/sft")
    shutil.copy("runs/tiny/config.yaml", "runs/second")
    with pytest.raises(PlauditError, match="second: this run has trained no reward model"):
        named_reward_models(["second"], [])
    shutil.rmtree("runs/second")


def test_too_many_candidates_are_refused_before_anything_is_loaded(folder: Path) -> None:
    target = find_target(str(folder / "runs" / "tiny"))
    assert target.chat_settings(best_of=1000, seed=0, plain=False, changes={}).best_of == 1000
    with pytest.raises(PlauditError, match=r"--best-of 1001: at most 1,000 candidates"):
        target.chat_settings(best_of=1001, seed=0, plain=False, changes={})


def test_a_reward_model_cannot_chat(folder: Path) -> None:
    model = str(folder / "runs" / "tiny" / "reward" / "model")
    error = CliRunner().invoke(app, ["chat", model]).exception
    assert isinstance(error, PlauditError)
    assert f"{model}: this is a reward model or classifier, which writes no text" in str(error)


def test_a_missing_device_is_named(folder: Path) -> None:
    model = str(folder / "runs" / "tiny" / "sft" / "model")
    error = CliRunner().invoke(app, ["chat", model, "--device", "abacus"]).exception
    assert isinstance(error, PlauditError)
    assert "device abacus is not available here; choose one of: " in str(error)


def test_help_has_an_example() -> None:
    result = CliRunner().invoke(app, ["chat", "--help"])
    assert "plaudit chat quickstart --best-of 8" in result.output
