import importlib
import importlib.util
import os
from pathlib import Path

import pytest
import torch

from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.runs.directory import RunDirectory, StageDirectory
from plaudit.runs.metadata import begin_metadata, collect_metadata
from plaudit.runs.trackers import check_trackers, scalars, stage_trackers

needs_tensorboard = pytest.mark.skipif(not importlib.util.find_spec("tensorboard"), reason="tensorboard is an extra")


def recipe(*trackers: str) -> Recipe:
    data = {"sources": ["a.jsonl", {"path": "b.jsonl", "weight": 2.0}]}
    lora = {"targets": ["q_proj", "v_proj"]}
    sft = {"model": {"path": "m", "lora": lora}, "data": data, "sample_prompts": ["one", "two"]}
    return Recipe.model_validate({"name": "run", "trackers": list(trackers), "sft": sft})


def test_configuration_becomes_single_values() -> None:
    flat = scalars(recipe("tensorboard"), "sft")
    assert flat["sft.optimizer.learning_rate"] == 1e-5
    assert flat["sft.data.sources.1.weight"] == 2.0
    assert flat["sft.sample_prompts"] == "one, two"
    assert flat["sft.model.lora.targets"] == "q_proj, v_proj"
    assert flat["trackers"] == "tensorboard"
    assert flat["seed"] == 0
    assert "sft.max_steps" not in flat
    assert all(isinstance(value, str | int | float | bool) for value in flat.values())


@pytest.mark.parametrize(
    "name, hint", [("tensorbord", "did you mean tensorboard"), ("abacus", "choose from aim, .*wandb")]
)
def test_an_unknown_tracker_is_refused(name: str, hint: str) -> None:
    with pytest.raises(PlauditError, match=f"trackers: {name}: unknown; {hint}"):
        check_trackers([name])


@pytest.mark.parametrize("name, package", [("wandb", r"'plaudit\[wandb\]'"), ("mlflow", "mlflow")])
def test_a_tracker_that_is_not_installed_is_refused_with_the_remedy(
    name: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", list)
    with pytest.raises(PlauditError, match=f"trackers: {name}: not installed; run: pip install {package}$"):
        check_trackers([name])


def test_without_trackers_nothing_is_written(tmp_path: Path) -> None:
    with stage_trackers(recipe(), StageDirectory(tmp_path / "sft")) as trackers:
        trackers.log({"loss": 1.0}, 1)
    assert list((tmp_path / "sft" / "trackers").iterdir()) == []


@needs_tensorboard
def test_tensorboard_gets_the_metrics_of_each_stage(tmp_path: Path) -> None:
    reader = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    two_stages = recipe("tensorboard").model_copy(update={"reward": recipe().sft})
    written = (("sft", 2.5), ("reward/member-1", 0.5), ("reward/member-2", 0.7))
    for stage, value in written:
        with stage_trackers(two_stages, StageDirectory(tmp_path / stage)) as trackers:
            trackers.log({"loss": value}, 1)
            trackers.log({"loss": value / 2}, 2)
    for stage, value in written:
        events = reader.EventAccumulator(str(tmp_path / stage / "trackers" / "tensorboard"))
        events.Reload()
        found = [(event.step, event.value) for event in events.Scalars("loss")]
        assert found == [(1, pytest.approx(value)), (2, pytest.approx(value / 2))]


@needs_tensorboard
def test_secrets_of_the_environment_are_never_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = {"WANDB_API_KEY": "wandb-key-0123456789", "HF_TOKEN": "hf_token_9876543210"}
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    run = RunDirectory(tmp_path / "run").open(recipe("tensorboard"))
    begin_metadata(run.metadata, collect_metadata(recipe("tensorboard"), torch.device("cpu")), [])
    stage = run.stage("sft").create()
    with stage_trackers(recipe("tensorboard"), stage) as trackers:
        trackers.log({"loss": 1.0}, 1)
    stage.finish({"loss": 1.0})
    run.close()
    files = [Path(folder) / name for folder, _, names in os.walk(tmp_path) for name in names]
    assert {"config.yaml", "metadata.json", "result.json", "hparams.yml"} <= {file.name for file in files}
    for file in files:
        assert not any(secret.encode() in file.read_bytes() for secret in secrets.values()), file
