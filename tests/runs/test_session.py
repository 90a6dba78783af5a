"""The requested processes and device must exist; every difference is one line with the remedy."""

from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

import plaudit.packages
from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import start_session


@pytest.mark.parametrize(
    "asked, launched, message",
    [
        (
            {"processes": 2, "distributed": "replicated"},
            "1",
            "2 requested, but 1 started; start it with: torchrun --nproc_per_node",
        ),
        ({}, "4", "processes: 1 requested, but 4 started; set processes=4 distributed=replicated"),
        ({"processes": 2}, "2", "distributed: this run has 2 processes; set distributed=replicated or"),
        (
            {"distributed": "replicated"},
            "1",
            "distributed: replicated needs several processes; set processes",
        ),
    ],
)
def test_started_processes_that_do_not_match_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked: dict[str, Any], launched: str, message: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", launched)
    with pytest.raises(PlauditError) as refused:
        start_session(Recipe.model_validate({"name": "trial", "device": "cpu"} | asked), RunDirectory(tmp_path))
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("found", ["none", "0.19.5", "0.20.0"])
def test_zero2_without_a_deepspeed_that_can_do_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, found: str) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")

    def version(_: str) -> str:
        if found == "none":
            raise PackageNotFoundError
        return found

    monkeypatch.setattr(plaudit.packages, "version", version)
    recipe = Recipe.model_validate({"name": "trial", "device": "cpu", "processes": 2, "distributed": "zero2"})
    with pytest.raises(PlauditError) as refused:
        start_session(recipe, RunDirectory(tmp_path))
    assert str(refused.value) == (
        f"distributed: zero2 needs deepspeed>=0.19.6,<0.20, found {found}; install it with: "
        "pip install -U 'plaudit[deepspeed]'"
    )


@pytest.mark.skipif(torch.accelerator.is_available(), reason="the device that is asked for exists here")
@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_missing_device(tmp_path: Path, device: Literal["cuda", "mps"]) -> None:
    with pytest.raises(
        PlauditError, match=f"device: {device} requested, but this machine has only cpu; set device=auto"
    ):
        start_session(Recipe(name="trial", device=device), RunDirectory(tmp_path))
