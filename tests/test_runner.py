"""Whole runs of recipes, with stages that only record that they ran."""

import shutil
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


def test_stages_computed_from_a_restarted_one_go_to_the_trash_until_the_next_success(
    tmp_path: Path, ran: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path)
    run(tmp_path, ["sft"], restart=True, sft={**SFT, "epochs": 2})
    told = capsys.readouterr().err
    assert all(f"{folder.folder / name} (finished" in told for name in ("sft", "rl", "evaluate"))
    assert sorted(path.name for path in (folder.folder / ".trash").iterdir()) == ["evaluate", "rl"]
    assert not folder.stage("rl").finished
    run(tmp_path, sft={**SFT, "epochs": 2})
    assert ran == ["sft", "rl", "evaluate", "sft", "rl", "evaluate"]
    assert not (folder.folder / ".trash").exists()


def state(folder: RunDirectory) -> dict[str, bytes]:
    files = [path for path in folder.folder.rglob("*") if path.is_file() and ".trash" not in path.parts]
    return {str(path.relative_to(folder.folder)): path.read_bytes() for path in files if path != folder.metadata}


def test_nothing_is_removed_before_the_inputs_of_what_will_run_are_verified(tmp_path: Path, ran: list[str]) -> None:
    folder = run(tmp_path)
    (folder.stage("sft").model / "weights").write_bytes(b"added later")
    before = state(folder)
    with pytest.raises(PlauditError, match=r"sft/model/weights: not in .*repeat the stage sft with --restart"):
        run(tmp_path, ["rl"], restart=True)
    assert state(folder) == before
    assert not (folder.folder / ".trash").exists()
    run(tmp_path, ["sft"], restart=True)


@pytest.mark.parametrize("fault", [PlauditError("a bad row"), KeyboardInterrupt()])
def test_removed_stages_are_put_back_if_nothing_was_computed_instead(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    folder = run(tmp_path)
    before = state(folder)

    def fail(context: Any) -> dict[str, Any]:
        (context.directory.folder / "rejects.jsonl").write_text("{}\n")
        raise fault

    with monkeypatch.context() as patch:
        patch.setattr(STAGES["sft"], "run", fail)
        with pytest.raises(type(fault)):
            run(tmp_path, ["sft"], restart=True, sft={**SFT, "epochs": 2})
    assert state(folder) == before
    assert (folder.folder / ".trash" / "sft" / "rejects.jsonl").read_text() == "{}\n"
    run(tmp_path)
    assert ran == ["sft", "rl", "evaluate"]
    run(tmp_path, ["sft"], restart=True)


def test_removed_stages_can_be_put_back_by_hand_as_the_log_says(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = run(tmp_path)
    before = state(folder)

    def diverge(context: Any) -> dict[str, Any]:
        context.directory.metrics.write_text('{"step": 0}\n')
        raise PlauditError("training diverged")

    with monkeypatch.context() as patch:
        patch.setattr(STAGES["evaluate"], "run", diverge)
        with pytest.raises(PlauditError, match="diverged"):
            run(tmp_path, ["evaluate"], restart=True, evaluate={**EVALUATE, "max_prompts": 5})
    trashed, evaluate = folder.folder / ".trash" / "evaluate", folder.stage("evaluate").folder
    told = " ".join(capsys.readouterr().err.split())
    assert f"the former evaluate is kept in {trashed}; to get it back, replace {evaluate} by it" in told
    shutil.rmtree(evaluate)
    trashed.rename(evaluate)
    (evaluate / "config.yaml").rename(folder.configuration)
    assert state(folder) == before
    run(tmp_path)
    run(tmp_path, ["evaluate"], restart=True)
    assert ran == ["sft", "rl", "evaluate", "evaluate"]


def test_a_damaged_model_is_noticed_before_a_later_stage_reads_it(tmp_path: Path, ran: list[str]) -> None:
    folder = run(tmp_path, ["sft"])
    (folder.stage("sft").model / "weights").write_bytes(b"added later")
    with pytest.raises(PlauditError, match=r"sft/model/weights: not in .*repeat the stage sft with --restart"):
        run(tmp_path)
    assert ran == ["sft"]


@pytest.mark.parametrize(
    "file, content, fault",
    [
        ("manifest.json", "{", r"sft/manifest.json: damaged, not a JSON object"),
        ("manifest.json", None, r"sft/manifest.json: missing"),
        ("manifest.json", '{"files": []}', r"sft/manifest.json: not a manifest of a stage"),
        ("result.json", "[", r"sft/result.json: 1 bytes instead of \d+"),
        ("result.json", '{\n  "seconds": 9.0\n}\n', r"sft/result.json: checksum differs from the manifest's"),
        ("metrics.jsonl", '{"step": 0}\n', r"sft/metrics.jsonl: 12 bytes instead of 24"),
        ("metrics.jsonl", None, r"sft/metrics.jsonl: missing"),
        ("samples.jsonl", '{"step": 1}\n', r"sft/samples.jsonl: checksum differs from the manifest's"),
        ("model/weights", "other", r"sft/model/weights: checksum differs from the manifest's"),
    ],
)
@pytest.mark.parametrize("stages", [None, ["sft"]])
def test_a_repeated_run_verifies_what_is_finished(
    tmp_path: Path,
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    content: str | None,
    fault: str,
    stages: list[str] | None,
) -> None:
    work = STAGES["sft"].run

    def train(context: Any) -> Any:
        result = work(context)
        (context.directory.model / "weights").write_text("right")
        context.directory.metrics.write_text('{"step": 0}\n' * 2)
        context.directory.samples.write_text('{"step": 0}\n')
        return result

    monkeypatch.setattr(STAGES["sft"], "run", train)
    folder = run(tmp_path)
    run(tmp_path)
    path = folder.stage("sft").folder / file
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(PlauditError, match=f"{fault}; restore it from a copy, or repeat the stage sft with --restart"):
        run(tmp_path, stages)
    assert ran == ["sft", "rl", "evaluate"]
    run(tmp_path, ["sft"], restart=True)


def test_a_damaged_result_is_not_taken_for_a_replaced_one(tmp_path: Path, ran: list[str]) -> None:
    folder = run(tmp_path)
    folder.stage("sft").result_file.write_text("{}")
    for stage in ("rl", "evaluate"):
        for restart in (False, True):
            with pytest.raises(PlauditError, match=r"sft/result.json: 2 bytes instead of"):
                run(tmp_path, [stage], restart=restart)
    (folder.stage("sft").folder / "manifest.json").unlink()
    folder.stage("sft").result_file.write_text("garbage")
    with pytest.raises(PlauditError, match=r"sft/result.json: damaged"):
        run(tmp_path, ["evaluate"], restart=True)
    assert ran == ["sft", "rl", "evaluate"]
    assert folder.stage("rl").finished


def test_a_refused_run_leaves_no_folder(tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any) -> dict[str, Any]:
        raise PlauditError("no such thing")

    monkeypatch.setattr(STAGES["sft"], "run", refuse)
    with pytest.raises(PlauditError, match="no such thing"):
        run(tmp_path)
    assert not (tmp_path / "run").exists()
    assert ran == []


def test_data_that_change_while_a_run_is_in_progress_are_noticed(
    tmp_path: Path, ran: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "a.jsonl"
    data.write_text("{}\n")
    train = STAGES["rl"].run

    def change(context: Any) -> Any:
        data.write_text("[]\n")
        return train(context)

    monkeypatch.setattr(STAGES["rl"], "run", change)
    run(tmp_path, sft={**SFT, "data": {"sources": [str(data)]}})
    assert f"sft: the data in {data} changed while the run was in progress" in " ".join(capsys.readouterr().err.split())
    assert ran == ["sft", "rl", "evaluate"]


def test_a_reference_is_a_whole_value(tmp_path: Path, ran: list[str]) -> None:
    """A text that mentions another stage is not a reference to it."""
    with pytest.raises(PlauditError, match=r"^evaluate\.models\.rl\.path: stage:rl: needs the result of rl"):
        run(tmp_path, ["evaluate"])
    prompts = {"sources": ["p.jsonl"], "prompt_template": 'see "stage:rl" {prompt}'}
    run(tmp_path, ["evaluate"], evaluate={**EVALUATE, "models": {"rl": "some/model"}, "prompts": prompts})
    assert ran == ["evaluate"]
