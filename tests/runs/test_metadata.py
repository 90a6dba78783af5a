import hashlib
import logging
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.config.schema import Recipe
from plaudit.runs.metadata import (
    begin_metadata,
    collect_metadata,
    data_checksums,
    git_revision,
    plaudit_revision,
    read_metadata,
    update_metadata,
    write_metadata,
)


def recipe(*sources: Any, held_out: Any = (), prompts: Any = ()) -> Recipe:
    values: dict[str, Any] = {
        "name": "run",
        "seed": 3,
        "sft": {"model": "m", "data": {"sources": list(sources), "held_out": list(held_out)}},
    }
    if prompts:
        toxicity = {"classifier": "c", "labels": ["l"], "activation": "sigmoid", "prompts": {"sources": list(prompts)}}
        reward = {"name": "r", "kind": "function", "function": "m:f"}
        values["evaluate"] = {
            "models": {"a": "m"},
            "baseline": "a",
            "prompts": {"sources": list(prompts)},
            "rewards": [reward],
            "toxicity": toxicity,
        }
    return Recipe.model_validate(values)


def test_checksums_of_every_local_file_and_nothing_else(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a.jsonl", "b.csv", "c.json")]
    for file in files:
        file.write_bytes(file.name.encode() * 3)
    found = data_checksums(
        recipe(str(files[0]), "org/hub-dataset", "stage:world/x.jsonl", str(tmp_path / "absent.jsonl"),
               held_out=[{"path": str(files[1])}], prompts=[str(files[2]), str(files[0])])
    )  # fmt: skip
    expected = {
        str(file): {"sha256": hashlib.sha256(file.name.encode() * 3).hexdigest(), "bytes": 3 * len(file.name)}
        for file in files
    }
    assert found == expected


def test_metadata_has_every_key_and_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_very_secret")
    collected = collect_metadata(recipe("org/hub"), torch.device("cpu"), processes=2)
    assert (collected["name"], collected["seed"], collected["device"], collected["processes"]) == ("run", 3, "cpu", 2)
    assert collected["threads"] == torch.get_num_threads()
    assert collected["python"] == platform.python_version()
    assert collected["versions"]["torch"] == torch.__version__
    assert collected["cpu"].endswith(f"{os.cpu_count()} cores")
    expected = "name started seed device threads processes python platform cpu versions plaudit_revision git_revision"
    assert list(collected) == [*expected.split(), "data", "stages"]
    assert "hf_very_secret" not in repr(collected)


def test_git_revision_of_a_clean_and_a_changed_folder(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        settings = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
        command = ["git", *settings, *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    assert git_revision(tmp_path) is None
    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    git("tag", "-a", "v1", "-m", "v1")
    revision = git("rev-parse", "HEAD")
    assert git_revision(tmp_path) == revision
    (tmp_path / "file").write_text("2")
    assert git_revision(tmp_path) == f"{revision}-dirty"


def test_updates_are_merged_key_by_key(tmp_path: Path) -> None:
    path = tmp_path / "metadata.json"
    write_metadata(path, {"name": "run", "stages": {"sft": {"seconds": 1.5}}})
    update_metadata(path, {"stages": {"rl": {"seconds": 2.0}, "sft": {"seconds": 1.75}}, "data": {"a": {"bytes": 1}}})
    assert read_metadata(path) == {
        "name": "run",
        "stages": {"sft": {"seconds": 1.75}, "rl": {"seconds": 2.0}},
        "data": {"a": {"bytes": 1}},
    }
    assert [file.name for file in tmp_path.iterdir()] == ["metadata.json"]


def test_a_resumed_run_keeps_its_start_and_warns_about_changed_data(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, data = tmp_path / "metadata.json", tmp_path / "data.jsonl"
    data.write_text("old")
    first = {**collect_metadata(recipe(str(data)), torch.device("cpu")), "started": "2020-01-01T00:00:00+00:00"}
    begun = list(recipe(str(data)).sections().values())
    begin_metadata(path, first, [])
    update_metadata(path, {"stages": {"sft": {"seconds": 1.0}}})
    begin_metadata(path, {**first, "started": "later", "threads": 77, "stages": {}}, begun)
    assert not caplog.records
    assert read_metadata(path) == {**first, "threads": 77, "stages": {"sft": {"seconds": 1.0}}}
    data.write_text("new")
    with caplog.at_level(logging.WARNING):
        begin_metadata(path, collect_metadata(recipe(str(data)), torch.device("cpu")), begun)
    [record] = caplog.records
    assert record.getMessage().startswith(f"the data in {data} changed since the run began; ")
    assert read_metadata(path)["data"][str(data)]["sha256"] == hashlib.sha256(b"new").hexdigest()
    caplog.clear()
    for content, warnings in (("new", 1), ("newer", 1), ("old", 0), ("old", 0)):
        data.write_text(content)
        begin_metadata(path, collect_metadata(recipe(str(data)), torch.device("cpu")), begun)
        assert sum("changed since the run began" in message for message in caplog.messages) == warnings, content
        caplog.clear()
    assert "former_data" not in read_metadata(path)


def test_data_that_no_stage_has_used_may_change(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A stage that failed while it read its data has not begun; another stage that has begun does not matter."""
    path = tmp_path / "metadata.json"
    files = [tmp_path / name for name in ("a.jsonl", "b.jsonl", "c.jsonl")]
    for file in files:
        file.write_text("old")
    whole = recipe(*map(str, files))
    for begun in ([], [recipe(str(files[1]), str(files[2])).sft]):
        begin_metadata(path, collect_metadata(whole, torch.device("cpu")), [])
        files[0].write_text(files[0].read_text() + "new")
        with caplog.at_level(logging.WARNING):
            begin_metadata(path, collect_metadata(whole, torch.device("cpu")), begun)  # type: ignore[arg-type]
        assert not caplog.records
    files[1].write_text("new")
    files[2].write_text("new")
    old = collect_metadata(whole, torch.device("cpu"))
    old["versions"] = {**old["versions"], "torch": "0.1"}
    begin_metadata(path, {**old, "data": {str(file): {"sha256": "old", "bytes": 3} for file in files}}, [])
    with caplog.at_level(logging.WARNING):
        begin_metadata(path, collect_metadata(whole, torch.device("cpu")), begun)  # type: ignore[arg-type]
    versions, data = (record.getMessage() for record in caplog.records)
    assert versions.startswith("the versions of torch changed since the run began; ")
    assert data.startswith(f"the data in {files[1]} and {files[2]} changed since the run began; ")


def test_the_revision_of_plaudit_is_not_that_of_the_users_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even if Plaudit is installed inside the user's repository."""
    package = tmp_path / "environment/plaudit"
    (package / "runs").mkdir(parents=True)
    (package / "__init__.py").touch()
    monkeypatch.setattr("plaudit.runs.metadata.__file__", str(package / "runs/metadata.py"))
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], cwd=tmp_path, check=True)
    (tmp_path / "thesis.tex").touch()
    subprocess.run([*git, "add", "thesis.tex"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "work"], cwd=tmp_path, check=True)
    assert git_revision(package) is not None
    assert plaudit_revision() is None
    subprocess.run([*git, "add", "environment"], cwd=tmp_path, check=True)
    subprocess.run([*git, "commit", "-qm", "adopt"], cwd=tmp_path, check=True)
    assert plaudit_revision() == git_revision(tmp_path)
