"""Bad input through the real command: one line with the place and the remedy, exit code 2, never a traceback."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import plaudit
from command_line import run_command
from plaudit.errors import PlauditError
from tiny_runs import tiny_recipe, write_tokenizer

Plaudit = Callable[..., str]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe whose first three stages are finished."""
    recipe = tiny_recipe(tmp_path_factory.mktemp("trained"))
    from plaudit.config.load import load_recipe
    from plaudit.runner import run

    run(load_recipe(str(recipe)), ["pretrain", "sft", "reward"])
    return recipe


@pytest.fixture
def refused(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Plaudit:
    """Return a function that runs ``plaudit`` and returns the line that it ends with."""

    def run(*arguments: str) -> str:
        code, output, errors = run_command(capfd, monkeypatch, *arguments)
        assert code == 2, errors
        assert "Traceback" not in output + errors
        # The library's progress bars end in carriage returns; the error is the last line, and the only one about it.
        *before, last = errors.rstrip("\n").split("\n")
        assert not any("rror" in line for line in before)
        return last

    return run


def changed_tokenizer(folder: Path, **settings: Any) -> str:
    """Write the tokenizer with other settings (None removes a key) and return its folder."""
    write_tokenizer(folder)
    path = folder / "tokenizer_config.json"
    config = json.loads(path.read_text()) | settings
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return str(folder)


@pytest.mark.parametrize(
    "override, message",
    [
        ("sft.model=no/such/model", "sft.model.path: no/such/model: no such folder"),
        ("sft.model=~/model", "sft.model.path: ~/model: no such folder; ~ is not expanded"),
        (
            "sft.model=./nowhere",
            "sft.model.path: ./nowhere: no such folder; give an existing folder or a hub",
        ),
        ("pretrain.data.sources=[nowhere.jsonl]", "pretrain.data.sources.0.path: nowhere.jsonl: no such file"),
        ("trackers=[tensorbord]", "trackers: tensorbord: unknown; did you mean tensorboard?"),
        ("processes=2", "processes: 2 requested, but 1 started; start it with: torchrun"),
        ("distributed=replicated", "distributed: replicated needs several processes; set processes"),
    ],
)
def test_missing_files_and_models(trained: Path, refused: Plaudit, override: str, message: str) -> None:
    command = "sft" if override.startswith("sft") else "run"
    assert refused(command, str(trained), override, "name=other").startswith(message)


def test_a_folder_of_a_stage_instead_of_its_model(trained: Path, refused: Plaudit) -> None:
    stage = trained.parent / "runs/tiny/pretrain"
    line = refused("sft", str(trained), f"sft.model={stage}", "name=folders")
    assert line == f"sft.model.path: {stage}: no config.json here; give {stage / 'model'}"
    empty = trained.parent / "empty"
    empty.mkdir()
    line = refused("sft", str(trained), f"sft.model={empty}", "name=empty")
    assert line.startswith(f"sft.model.path: {empty}: no config.json here; give the folder of a model")


def test_stages_that_are_not_there(tmp_path: Path, refused: Plaudit) -> None:
    recipe = tiny_recipe(tmp_path)
    assert "did you mean sft?" in refused("run", str(recipe), "--only", "sftt")
    assert "has no section evaluate" in refused("run", str(recipe), "--only", "evaluate")
    (tmp_path / "none.yaml").write_text(f"name: none\noutput: {tmp_path}\n")
    assert "has no stage" in refused("run", str(tmp_path / "none.yaml"))
    assert "cannot be the name of a run" in refused("run", str(recipe), "name=-x")
    with pytest.raises(PlauditError, match="an override must be a string or a dictionary, not int"):
        plaudit.run(str(recipe), 1)  # type: ignore[arg-type]


def test_an_empty_dataset(tmp_path: Path, refused: Plaudit) -> None:
    recipe, empty = tiny_recipe(tmp_path), tmp_path / "empty.jsonl"
    empty.write_text("")
    line = refused("run", str(recipe), f"pretrain.data.sources=[{empty}]")
    assert line.startswith(f"{empty}: ")
    assert "; " in line


def test_bad_rows(tmp_path: Path, refused: Plaudit) -> None:
    recipe, bad = tiny_recipe(tmp_path), tmp_path / "bad.jsonl"
    bad.write_text('{"text": "w1 w2"}\n{"text": 3}\n')
    line = refused("run", str(recipe), f"pretrain.data.sources=[{bad}]")
    assert line.startswith(f"{bad} line 2: ")
    assert "1 of 2 records are bad" in line


def test_a_model_without_an_end_token(tmp_path: Path, refused: Plaudit) -> None:
    recipe = tiny_recipe(tmp_path)
    tokenizer = changed_tokenizer(tmp_path / "lacking", eos_token=None)
    line = refused("run", str(recipe), f"pretrain.model.tokenizer={tokenizer}")
    assert line == f"{tokenizer}: the tokenizer has no eos_token; set eos_token next to the stage's model.path"


def test_mismatched_tokenizers(trained: Path, tmp_path: Path, refused: Plaudit) -> None:
    other = tmp_path / "other"
    write_tokenizer(other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace('"w7"', '"w77"'))
    overrides = [f"rl.model.tokenizer={other}", "rl.held_out_prompts=0", "rl.evaluate_every=null"]
    lines = [f"rl.{key}: mismatched tokenizers: " for key in ("value_model", "rewards.0.path")]
    assert refused("rl", str(trained), *overrides).startswith(tuple(lines))


def test_a_language_model_is_refused_as_a_reward_model(trained: Path, refused: Plaudit) -> None:
    folder = trained.parent / "runs/tiny/sft/model"
    message = f"{folder}: this language model has no trained reward head"
    for key in ("rl.rewards.0.path", "rl.value_model"):
        assert refused("rl", str(trained), f"{key}={folder}").startswith(f"{key}: {message}")


@pytest.mark.parametrize("overlong", ["drop", "error"])
def test_prompts_longer_than_the_context(trained: Path, tmp_path: Path, refused: Plaudit, overlong: str) -> None:
    prompts = tmp_path / "long.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"w{n} " * 60}) + "\n" for n in range(20)))
    sources = [f"rl.prompts.sources=[{prompts}]", f"rl.prompts.overlong={overlong}"]
    line = refused("rl", str(trained), *sources)
    assert f"{prompts} line " in line
    assert ": prompt of 60 tokens with response of 0 exceeds " in line
    assert line.endswith("raise them, or set overlong to drop or truncate")


def test_an_answer_longer_than_the_context(trained: Path, refused: Plaudit) -> None:
    line = refused("rl", str(trained), "rl.generation.max_new_tokens=64")
    assert line.startswith(
        "rl.generation.max_new_tokens: 64 leaves no room for a prompt in the 64 tokens that rl.model"
    )


def test_a_changed_configuration(trained: Path, refused: Plaudit) -> None:
    line = refused("run", str(trained), "sft.optimizer.learning_rate=0.5", "seed=3", "rl.clip=0.3")
    assert "config.yaml: seed: 0 -> 3; " in line
    assert ": changed since the run began; undo the change, " in line
    assert "sft.optimizer.learning_rate: 0.003 -> 0.5" in line
    assert "rl.clip" not in line
    assert line.endswith("choose another name for the run")
    assert "--restart" not in line


def test_an_earlier_stage_that_has_not_run(tmp_path: Path, refused: Plaudit) -> None:
    line = refused("rl", str(tiny_recipe(tmp_path)))
    assert line.startswith("rl.value_model: stage:reward: needs the result of reward, which is not in ")
