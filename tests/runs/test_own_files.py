"""Files of the user within a run: never deleted, never verified."""

import os
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.runs.directory import RunDirectory, StageDirectory

RECIPE: dict[str, Any] = {"name": "run", "sft": {"model": "some/model", "data": {"sources": ["a.jsonl"]}}}
OWN = [
    *(
        "metrics.jsonl",
        "samples.jsonl",
        "rejects.jsonl",
        "notes.json",
        ".models.json",
        ".data.json",
        "reference.safetensors",
    ),
    *("model/config.json", "model/model-00001-of-00002.safetensors", "model/tokenizer.json", "model/adapter/a.json"),
    *("checkpoints/step-00000002/state.json", "checkpoints/step-00000002/model.safetensors"),
    *("checkpoints/step-00000002/manifest.json", "checkpoints/step-00000004.unfinished/model.safetensors"),
    *("trackers/run-sft/events.out.tfevents.1.host", "trackers/wandb/run-1/run.wandb", ".metrics.jsonl.unfinished"),
    *("faulty-batch-0.jsonl", "member-1/metrics.jsonl", "member-1/model/config.json"),
    *("member-1/checkpoints/step-00000002/state.json", "member-1/trackers/run/events.out.tfevents.1.host"),
]
LATER = [
    *("mynotes.txt", "model/my/precious.txt", "model/labels.json", "checkpoints/step-00000002/why.md"),
    *("checkpoints/mine/step-00000002/state.json", "trackers/notes.txt", "member-1/notes.txt"),
    *("member-1/model/labels.json", "member-x/metrics.jsonl", "summary.json"),
]


def written(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def opened(folder: Path, restart: bool = False) -> RunDirectory:
    run = RunDirectory(folder).open(Recipe.model_validate(RECIPE), restart)
    run.close()
    return run


def left(run: RunDirectory) -> dict[str, str]:
    """Return the files in the trash of sft, with their contents."""
    trash = run.folder / ".trash" / "kept-sft"
    return {path.relative_to(trash).as_posix(): path.read_text() for path in trash.rglob("*") if path.is_file()}


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    """A run whose stage sft, an ensemble, has finished."""
    run = opened(tmp_path / "run")
    run.record_inputs("sft", [])
    stage = run.stage("sft")
    written(stage.folder, OWN)
    StageDirectory(stage.folder / "member-1").finish({})
    stage.finish({"seconds": 1.0})
    return run


def test_all_that_stages_write_is_deleted(run: RunDirectory) -> None:
    opened(run.folder, restart=True).empty_trash("sft")
    assert not (run.folder / ".trash").exists()


@pytest.mark.parametrize("finished", [True, False])
def test_files_of_the_user_survive_and_are_named(
    run: RunDirectory, finished: bool, caplog: pytest.LogCaptureFixture
) -> None:
    stage = run.stage("sft")
    written(stage.folder, LATER)
    (stage.folder / "away").symlink_to(run.folder.parent)
    if not finished:
        stage.result_file.unlink()
    opened(run.folder, restart=True).empty_trash()
    assert left(run) == {name: name for name in LATER}
    kept = run.folder / ".trash" / "kept-sft"
    assert (kept / "away").is_symlink()
    assert f"kept in {kept} what Plaudit did not write, or what has changed since: away, " in caplog.text
    run.empty_trash()
    assert left(run) == {name: name for name in LATER}
    assert os.listdir(run.folder / ".trash") == ["kept-sft"]


def test_a_stage_without_a_manifest_keeps_what_no_stage_writes(run: RunDirectory) -> None:
    stage = run.stage("sft")
    for folder in (stage.folder, stage.folder / "member-1"):
        (folder / "manifest.json").unlink()
        (folder / "result.json").unlink()
    mine = ["mynotes.txt", "model/my/precious.txt"]
    written(stage.folder, mine)
    opened(run.folder, restart=True).empty_trash()
    assert left(run) == {name: name for name in mine}


def test_a_changed_file_is_the_users(run: RunDirectory) -> None:
    (run.stage("sft").folder / "samples.jsonl").write_text("with my comments")
    opened(run.folder, restart=True).empty_trash()
    assert left(run) == {"samples.jsonl": "with my comments"}


def test_files_from_before_the_end_of_a_stage_are_not_recorded(run: RunDirectory) -> None:
    stage = run.stage("sft")
    written(stage.folder, ["mynotes.txt"])
    stage.finish({})
    written(stage.folder, ["mynotes.txt"])
    (stage.folder / "mynotes.txt").write_text("one more thought")
    stage.verify()
    opened(run.folder, restart=True).empty_trash()
    assert left(run) == {"mynotes.txt": "one more thought"}


def test_a_configuration_of_the_user_is_not_overwritten(run: RunDirectory) -> None:
    (run.stage("sft").folder / "config.yaml").write_text("mine")
    opened(run.folder, restart=True).empty_trash()
    assert left(run) == {"own-config.yaml": "mine"}


def test_what_the_user_put_into_the_trash_stays(run: RunDirectory) -> None:
    opened(run.folder, restart=True)
    written(run.folder / ".trash", ["todo.txt", "mine/metrics.jsonl"])
    run.empty_trash()
    assert sorted(os.listdir(run.folder / ".trash")) == ["mine", "todo.txt"]


def test_a_stage_that_is_a_symbolic_link_is_refused_before_anything_is_moved(run: RunDirectory, tmp_path: Path) -> None:
    stage = run.stage("sft").folder
    stage.rename(tmp_path / "elsewhere")
    stage.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PlauditError, match=r"run/sft: a symbolic link"):
        opened(run.folder, restart=True)
    assert stage.is_symlink()
    assert not (run.folder / ".trash").exists()
