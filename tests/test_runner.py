"""Whole runs of recipes, with stages that only record that they ran."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from plaudit import runner
from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.registries.stages import STAGES
from plaudit.runs.directory import RunDirectory
from plaudit.stages import preflight

SFT = {"model": "some/model", "data": {"sources": ["a.jsonl"]}}
RL = {
    "model": "stage:sft",
    "prompts": {"sources": ["p.jsonl"]},
    "rewards": [{"name": "r", "kind": "function", "function": "m:f"}],
}
EVALUATE = {
    "models": {"rl": "stage:rl"},
    "baseline": "rl",
    "prompts": {"sources": ["p.jsonl"]},
    "rewards": [{"name": "r", "kind": "function", "function": "m:f"}],
}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the stages' work; return the list of those that run."""
    names: list[str] = []

    def work(context: Any) -> dict[str, Any]:
        names.append(context.name)
        (context.directory.create().folder / "model").mkdir()
        return {"seconds": float(len(names))}

    monkeypatch.setattr(preflight, "CHECKS", dict.fromkeys(preflight.CHECKS, lambda found: None))
    for name in ("sft", "rl", "evaluate"):
        monkeypatch.setattr(STAGES[name], "run", work)
        monkeypatch.setattr(STAGES[name], "show", lambda _: None)
    return names


def run(folder: Path, stages: Sequence[str] | None = None, restart: bool = False, **changes: Any) -> RunDirectory:
    sections = {"sft": SFT, "rl": RL, "evaluate": EVALUATE, "device": "cpu", **changes}
    recipe = Recipe.model_validate({"name": "run", "output": str(folder), **sections})
    return RunDirectory(runner.run(recipe, stages, restart))


def test_restarting_one_stage_keeps_all_others(tmp_path: Path, ran: list[str]) -> None:
    folder = run(tmp_path)
    run(tmp_path, ["evaluate"], restart=True)
    assert ran == ["sft", "rl", "evaluate", "evaluate"]
    assert [folder.stage(name).result()["seconds"] for name in ("sft", "rl", "evaluate")] == [1.0, 2.0, 4.0]


def test_restarting_the_run_runs_every_stage_again(tmp_path: Path, ran: list[str]) -> None:
    run(tmp_path)
    folder = run(tmp_path, restart=True, seed=3)
    assert ran == ["sft", "rl", "evaluate"] * 2
    assert folder.stage("sft").result()["seconds"] == 4.0


def test_stages_computed_from_a_restarted_one_do_not_count_until_they_are_restarted(
    tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path)
    run(tmp_path, ["sft"], restart=True, sft={**SFT, "epochs": 2})
    told = capsys.readouterr().err
    for name, earlier in (("rl", "sft"), ("evaluate", "rl")):
        assert f"{name} used an earlier result of {earlier}; " in told
        assert f"plaudit {name} RECIPE OVERRIDES… --restart" in told
    with pytest.raises(
        PlauditError, match=r"^rl used an earlier result of sft; .* plaudit rl RECIPE OVERRIDES… --restart"
    ):
        run(tmp_path, sft={**SFT, "epochs": 2})
    with pytest.raises(PlauditError, match=r"^evaluate needs rl, but rl used an earlier result of sft; "):
        run(tmp_path, ["evaluate"], restart=True, sft={**SFT, "epochs": 2})
    run(tmp_path, ["rl"], restart=True, sft={**SFT, "epochs": 2})
    run(tmp_path, ["evaluate"], restart=True, sft={**SFT, "epochs": 2})
    assert ran == ["sft", "rl", "evaluate", "sft", "rl", "evaluate"]
    run(tmp_path, sft={**SFT, "epochs": 2})
    assert len(ran) == 6


def test_a_reference_is_a_whole_value(tmp_path: Path, ran: list[str]) -> None:
    """A text that mentions another stage is not a reference to it."""
    with pytest.raises(PlauditError, match=r"^evaluate\.models\.rl\.path: stage:rl: needs the result of rl"):
        run(tmp_path, ["evaluate"])
    prompts = {"sources": ["p.jsonl"], "prompt_template": 'see "stage:rl" {prompt}'}
    run(tmp_path, ["evaluate"], evaluate={**EVALUATE, "models": {"rl": "some/model"}, "prompts": prompts})
    assert ran == ["evaluate"]
