import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from plaudit.config.load import load_recipe
from plaudit.config.schema import Recipe
from plaudit.errors import PlauditError
from plaudit.runs.changes import differences
from plaudit.runs.directory import RunDirectory
from plaudit.runs.jsonl import JsonLinesWriter, read_json_lines

MODEL = {"path": "some/model"}
SFT: dict[str, Any] = {"model": MODEL, "data": {"sources": ["a.jsonl"]}}
HTTP = {"name": "h", "kind": "http", "url": "http://judge"}
REWARD: dict[str, Any] = {"model": MODEL, "data": {"sources": ["c.jsonl"]}}
RL: dict[str, Any] = {
    "model": "stage:sft",
    "prompts": {"sources": ["p.jsonl"]},
    "rewards": [{"name": "r", "kind": "function", "function": "m:f"}, HTTP],
}


def recipe(**values: Any) -> Recipe:
    return Recipe.model_validate({"name": "run", "sft": SFT, **values})


def opened(folder: Path, restart: bool = False, restart_stages: Sequence[str] = (), **values: Any) -> RunDirectory:
    run = RunDirectory(folder).open(recipe(**values), restart, restart_stages)
    run.close()
    return run


def begin(run: RunDirectory, stage: str, earlier: Sequence[str] = ()) -> None:
    run.record_inputs(stage, earlier)
    with JsonLinesWriter(run.stage(stage).metrics) as log:
        log.append({"step": 1})


def test_the_configuration_is_written_in_full_and_reads_back(tmp_path: Path) -> None:
    run = opened(tmp_path / "runs" / "run", rl=RL)
    assert load_recipe(str(run.configuration)) == recipe(rl=RL)
    written = yaml.safe_load(run.configuration.read_text())
    assert written["sft"]["optimizer"]["beta1"] == 0.9
    assert not run.stage("sft").begun


def test_a_change_is_refused_with_old_and_new_value(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    begin(run, "sft")
    with pytest.raises(PlauditError) as error:
        opened(tmp_path / "run", seed=3, sft={**SFT, "optimizer": {"learning_rate": 2e-5}, "max_steps": 9})
    message = str(error.value)
    assert "\n" not in message
    assert "config.yaml: seed: 0 -> 3; " in message
    for change in ("seed: 0 -> 3", "sft.optimizer.learning_rate: 1e-05 -> 2e-05", "sft.max_steps: null -> 9"):
        assert change in message
    assert message.count("->") == 3
    assert load_recipe(str(run.configuration)) == recipe()
    opened(tmp_path / "run")


FREE: list[dict[str, Any]] = [
    {"description": "d", "output": "elsewhere", "threads": 1, "trackers": ["tensorboard"]},
    {"sft": {**SFT, "checkpoint_every": 7, "keep_checkpoints": 1, "token_budget": 99, "pack_length": 64}},
    {"sft": {**SFT, "gradient_checkpointing": True}},
    {"processes": 2, "distributed": "fsdp2"},
    {"rl": {**RL, "generation": {"batch_size": 1}}},
    {"rl": {**RL, "rewards": [{**RL["rewards"][0], "batch_size": 1}, HTTP | {"timeout": 5}]}},
]
FIXED: list[dict[str, Any]] = [
    {"precision": "bf16"},
    {"device": "cpu"},
    {"processes": 2, "distributed": {"kind": "fsdp2", "param_dtype": "bf16"}},
    {"sft": {**SFT, "batch_size": 31}},
    {"sft": {**SFT, "evaluate_every": 49}},
    {"rl": {**RL, "generation": {"max_new_tokens": 63}}},
    {"rl": {**RL, "rewards": [*RL["rewards"], {**RL["rewards"][0], "name": "another"}]}},
    {"rl": None},
]


@pytest.mark.parametrize("change", FREE)
def test_keys_that_no_result_depends_on_may_change(tmp_path: Path, change: dict[str, Any]) -> None:
    begin(opened(tmp_path / "run", rl=RL), "rl")
    run = opened(tmp_path / "run", **{"rl": RL, **change})
    assert load_recipe(str(run.configuration)) == recipe(**{"rl": RL, **change})


@pytest.mark.parametrize("change", FIXED)
def test_other_keys_may_not_change(tmp_path: Path, change: dict[str, Any]) -> None:
    begun = opened(tmp_path / "run", rl=RL)
    begin(begun, "sft")
    begin(begun, "rl")
    with pytest.raises(PlauditError, match="changed since the run began"):
        opened(tmp_path / "run", **{"rl": RL, **change})


def test_of_the_settings_of_fsdp2_only_the_type_of_the_weights_is_fixed(tmp_path: Path) -> None:
    sharded = {"kind": "fsdp2", "param_dtype": "bf16"}
    begin(opened(tmp_path / "run", processes=2, distributed=sharded), "sft")
    opened(tmp_path / "run", processes=2, distributed=sharded | {"reshard_after_forward": False})
    for other in ("fsdp2", "replicated"):
        with pytest.raises(
            PlauditError, match=r'distributed\.param_dtype: "bf16" -> null: changed since the run began'
        ):
            opened(tmp_path / "run", processes=2, distributed=other)


def test_a_strategy_without_rounding_may_be_replaced(tmp_path: Path) -> None:
    begin(opened(tmp_path / "run", processes=2, distributed="fsdp2"), "sft")
    for other in ("replicated", "zero2", {"kind": "fsdp2", "reshard_after_forward": False}):
        run = opened(tmp_path / "run", processes=2, distributed=other)
        kind = other if isinstance(other, str) else other["kind"]
        assert f"kind: {kind}\n" in run.configuration.read_text()
    assert "kind: none\n" in opened(tmp_path / "run").configuration.read_text()


def test_before_any_stage_has_begun_everything_may_change(tmp_path: Path) -> None:
    opened(tmp_path / "run")
    run = opened(tmp_path / "run", seed=9, sft={**SFT, "epochs": 2})
    assert "seed: 9\n" in run.configuration.read_text()


def test_stages_that_have_not_begun_may_come_change_and_go(tmp_path: Path) -> None:
    begin(opened(tmp_path / "run"), "sft")
    opened(tmp_path / "run", rl=RL)
    opened(tmp_path / "run", rl={**RL, "iterations": 5}, pretrain=SFT)
    run = opened(tmp_path / "run", rl=RL)
    begin(run, "rl")
    with pytest.raises(PlauditError, match=r"config.yaml: rl: \{.* -> null: .* another name for the run$"):
        opened(tmp_path / "run")


@pytest.mark.parametrize(
    "change, remedy",
    [
        ({"rl": {**RL, "iterations": 5}}, "repeat rl with: plaudit rl RECIPE OVERRIDES… --restart"),
        ({"sft": {**SFT, "epochs": 2}}, "repeat sft with: plaudit sft RECIPE OVERRIDES… --restart"),
        ({"seed": 3}, "choose another name for the run"),
        ({"seed": 3, "sft": {**SFT, "epochs": 2}}, "choose another name for the run"),
        ({"rl": {**RL, "iterations": 5}, "sft": {**SFT, "epochs": 2}}, "choose another name for the run"),
    ],
)
def test_the_remedy_for_a_refused_change_deletes_no_valid_results(
    tmp_path: Path, change: dict[str, Any], remedy: str
) -> None:
    run = opened(tmp_path / "run", rl=RL)
    begin(run, "sft")
    begin(run, "rl")
    with pytest.raises(PlauditError) as error:
        opened(tmp_path / "run", **{"rl": RL, **change})
    assert str(error.value).endswith(f"or {remedy}")


def test_many_differences_are_counted(tmp_path: Path) -> None:
    begin(opened(tmp_path / "run"), "sft")
    optimizer = {"learning_rate": 1, "schedule": "linear", "final_fraction": 0, "warmup_fraction": 0, "weight_decay": 1}
    with pytest.raises(PlauditError, match="; and 2 more: changed since the run began; undo"):
        opened(tmp_path / "run", sft={**SFT, "epochs": 2, "batch_size": 2, "loss_on": "all", "optimizer": {
            **optimizer, "beta1": 0.5, "beta2": 0.5}})  # fmt: skip


def test_differences_by_hand() -> None:
    old = {"a": {"b": 1, "c": [1, {"d": 2}]}, "e": [1], "f": None}
    new = {"a": {"b": 1, "c": [1, {"d": 3}]}, "e": [1, 2], "f": {"g": 1}}
    expected = [(("a", "c", 1, "d"), 2, 3), (("e",), [1], [1, 2]), (("f",), None, {"g": 1})]
    assert list(differences(old, new)) == expected
    assert list(differences(old, old)) == []


def test_starting_over_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    begin(run, "sft")
    opened(tmp_path / "run", restart=True, seed=5)
    assert not run.stage("sft").begun
    assert load_recipe(str(run.configuration)).seed == 5
    assert visible(tmp_path) == ["run"]
    assert visible(run.folder / ".trash") == ["sft"]
    opened(tmp_path / "new", restart=True)


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name not in (".locks", "manifest.json"))


def test_restarting_a_stage_deletes_its_folder_and_nothing_else(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", rl=RL)
    for stage in ("sft", "rl"):
        begin(run, stage)
        run.stage(stage).finish({"seconds": 1.0})
    opened(tmp_path / "run", restart_stages=["rl"], rl={**RL, "iterations": 5})
    assert run.stage("sft").result() == {"seconds": 1.0}
    assert visible(run.folder) == [".trash", "config.yaml", "sft"]
    assert visible(run.folder / ".trash" / "rl") == ["config.yaml", "inputs.json", "metrics.jsonl", "result.json"]
    with pytest.raises(PlauditError, match=r"config.yaml: sft.epochs: 1.0 -> 2"):
        opened(tmp_path / "run", restart_stages=["rl"], rl=RL, sft={**SFT, "epochs": 2})


def test_what_was_computed_from_a_restarted_stage_goes_with_it_after_its_name_was_shown(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = opened(tmp_path / "run", rl=RL, reward=REWARD)
    for stage, earlier in (("sft", []), ("reward", []), ("rl", ["sft"]), ("evaluate", ["rl"])):
        begin(run, stage, earlier)
        run.stage(stage).finish({"seconds": 3723.0})
    asked: list[str] = []

    def refuse(text: str) -> bool:
        asked.append(text)
        return False

    with pytest.raises(PlauditError, match="nothing was removed"):
        RunDirectory(run.folder).open(recipe(rl=RL, reward=REWARD), False, ["sft"], refuse)
    assert visible(run.folder) == ["config.yaml", "evaluate", "reward", "rl", "sft"]
    opened(tmp_path / "run", restart_stages=["sft"], rl=RL, reward=REWARD, sft={**SFT, "epochs": 2})
    shown = caplog.messages[-1]
    assert asked == [shown]
    for stage in ("sft", "rl", "evaluate"):
        assert f"{run.stage(stage).folder} (finished, took 1:02:03)" in shown
    assert "reward" not in shown
    assert visible(run.folder) == [".trash", "config.yaml", "reward"]
    assert visible(run.folder / ".trash") == ["evaluate", "rl", "sft"]


def test_the_trash_keeps_every_removed_folder_until_it_is_emptied(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    for name in ("samples.jsonl", "notes.json"):
        begin(run, "sft")
        (run.stage("sft").folder / name).touch()
        opened(tmp_path / "run", restart=True)
    kept = [sorted(path.name for path in folder.iterdir()) for folder in sorted((run.folder / ".trash").iterdir())]
    written = ["config.yaml", "inputs.json", "metrics.jsonl"]
    assert kept == [sorted([*written, "samples.jsonl"]), sorted([*written, "notes.json"])]
    run.empty_trash("rl")
    assert visible(run.folder / ".trash") == ["sft", "sft-2"]
    run.empty_trash("sft")
    assert visible(run.folder) == ["config.yaml"]


def test_only_what_the_manifest_names_is_removed(tmp_path: Path) -> None:
    run = opened(tmp_path / "run")
    begin(run, "sft")
    (run.folder / "thesis.tex").touch()
    (run.folder / "rl").mkdir()
    for restart, stages in ((True, ()), (False, ("rl",))):
        with pytest.raises(PlauditError, match=r"run/rl: manifest.json of the run does not name it"):
            opened(tmp_path / "run", restart, stages)
    (run.folder / "rl").rmdir()
    opened(tmp_path / "run", restart=True)
    assert visible(run.folder) == [".trash", "config.yaml", "thesis.tex"]


def test_a_kill_during_a_restart_removes_later_stages_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is a run without its last stages, which resumes."""
    run = opened(tmp_path / "run", rl=RL)
    begin(run, "sft")
    begin(run, "rl", ["sft"])
    rename = os.rename

    def die_at_sft(source: Path, target: Path) -> None:
        if Path(source).name == "sft":
            raise KeyboardInterrupt
        rename(source, target)

    restarted = RunDirectory(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr("plaudit.runs.trash.os.rename", die_at_sft)
        with pytest.raises(KeyboardInterrupt):
            restarted.open(recipe(rl=RL), False, ["sft"])
    restarted.close()
    assert visible(run.folder) == [".trash", "config.yaml", "sft"]
    opened(tmp_path / "run", rl={**RL, "iterations": 5})


def test_a_run_inside_of_a_run_is_refused(tmp_path: Path) -> None:
    run = opened(tmp_path / "a")
    with pytest.raises(PlauditError, match=r"a/b: inside of another run"):
        opened(run.folder / "b")
    assert visible(run.folder) == ["config.yaml"]


def test_secrets_of_addresses_are_masked_and_a_resumed_run_may_have_them(tmp_path: Path) -> None:
    judge = HTTP | {"url": "http://me:secret@judge/score?key=secret"}
    changed = {**RL, "rewards": [RL["rewards"][0], judge]}
    run = opened(tmp_path / "run", rl=changed)
    begin(run, "rl")
    written = run.configuration.read_text()
    assert re.search(r"url: http://\*\*\*@judge/score\?key=\*\*\*[0-9a-f]{4}\n", written)
    assert "secret" not in written
    opened(tmp_path / "run", rl=changed)
    kept = load_recipe(str(run.configuration))
    RunDirectory(tmp_path / "run").open(kept).close()
    assert run.configuration.read_text() == written


@pytest.mark.parametrize(
    "before, after",
    [
        ("judge/v1/score-helpfulness-model-7b", "judge/v1/score-harmlessness-model-13b"),
        ("judge/score?version=1", "judge/score?version=2"),
        ("judge/score?helpful", "judge/score?harmless"),
        ("judge/score#1", "judge/score#2"),
    ],
)
def test_a_change_in_what_is_masked_is_refused(tmp_path: Path, before: str, after: str) -> None:
    def with_address(address: str) -> dict[str, Any]:
        return {**RL, "rewards": [RL["rewards"][0], HTTP | {"url": f"http://{address}"}]}

    begin(opened(tmp_path / "run", rl=with_address(f"me:password@{before}")), "rl")
    opened(tmp_path / "run", rl=with_address(f"me:another@{before}"))
    with pytest.raises(PlauditError, match=r"rl\.rewards\.1\.url: .*\*{3}[0-9a-f]{4}.* -> .*\*{3}[0-9a-f]{4}"):
        opened(tmp_path / "run", rl=with_address(f"me:password@{after}"))


@pytest.mark.parametrize("damage", ["flip", "missing", "added", "manifest"])
def test_files_of_a_finished_stage_are_verified(tmp_path: Path, damage: str) -> None:
    run = opened(tmp_path / "run")
    stage = run.stage("sft")
    stage.model.mkdir(parents=True)
    weights = stage.model / "weights"
    weights.write_bytes(b"abcd")
    stage.finish({"seconds": 1.0})
    run.verify("sft", "")
    run.verify("sft", "model/weights")
    if damage == "flip":
        weights.write_bytes(b"abce")
    elif damage == "missing":
        weights.unlink()
    elif damage == "added":
        (stage.model / "more").touch()
    else:
        (stage.folder / "manifest.json").write_text("{}")
    remedy = "move it out of" if damage == "added" else "restore it from a copy"
    with pytest.raises(PlauditError, match=rf"sft/.*; {remedy}.*, or repeat the stage sft with --restart"):
        run.verify("sft", "")


def test_a_stage_is_out_of_date_when_a_result_that_it_was_computed_from_is_replaced(tmp_path: Path) -> None:
    run = opened(tmp_path / "run", rl=RL)
    for stage, earlier in (("sft", []), ("rl", ["sft"]), ("evaluate", ["rl"])):
        run.record_inputs(stage, earlier)
        assert not run.stage(stage).begun
        begin(run, stage, earlier)
        run.stage(stage).finish({"seconds": 1.0, "stage": stage})
    inputs = {"rl": ["sft"], "evaluate": ["rl"]}
    assert all(run.replaced_inputs(stage) == [] for stage in inputs)
    run.stage("sft").result_file.unlink()
    assert {stage: run.replaced_inputs(stage) for stage in inputs} == inputs
    run.stage("sft").finish({"seconds": 2.0, "stage": "sft"})
    assert {stage: run.replaced_inputs(stage) for stage in inputs} == inputs
    run.stage("sft").finish({"seconds": 1.0, "stage": "sft"})
    assert all(run.replaced_inputs(stage) == [] for stage in inputs)


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_that_is_not_a_run_is_not_changed(tmp_path: Path, restart: bool) -> None:
    (tmp_path / "config.yaml").write_text("name: run\n")
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(PlauditError, match="not a Plaudit run"):
        opened(tmp_path, restart)
    with pytest.raises(PlauditError, match="is a file"):
        opened(tmp_path / "thesis.tex", restart)
    assert visible(tmp_path) == ["config.yaml", "thesis.tex"]


def test_a_run_killed_before_its_configuration_was_written_can_begin(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".config.yaml.unfinished").touch()
    assert opened(tmp_path).configuration.exists()


HOLD_THE_LOCK = """
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from plaudit.config.load import load_recipe
from plaudit.runs.directory import RunDirectory

run = RunDirectory(Path(sys.argv[1]))
run.open(load_recipe(str(run.configuration)))
if sys.argv[2] == "with a child" and os.fork() == 0:
    os.close(1)
    time.sleep(20)
print("locked", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("family", ["alone", "with a child"])
def test_two_processes_cannot_write_one_run_and_a_kill_frees_it(tmp_path: Path, family: str) -> None:
    """Also while a forked child of the process is still running."""
    run = opened(tmp_path / "run")
    begin(run, "sft")
    command = [sys.executable, "-c", HOLD_THE_LOCK, str(run.folder), family]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        for restart in (False, True):
            with pytest.raises(PlauditError, match=f"process {holder.pid} is already writing this run"):
                opened(tmp_path / "run", restart)
        holder.kill()
    assert run.stage("sft").begun
    opened(tmp_path / "run")


# A stage's folder -----------------------------------------------------------------------------------------------------


def test_a_stage_is_finished_by_its_result(tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("sft")
    assert not stage.finished
    assert not stage.begun
    assert not stage.create().begun
    (stage.model / "deep").mkdir(parents=True)
    (stage.model / "deep" / "weights").write_text("x")
    assert stage.begun
    assert not stage.finished
    stage.finish({"loss": 0.1 + 0.2, "seconds": 3.0, "held_out/accuracy": float("nan")})
    assert stage.finished
    assert stage.result() == {"loss": 0.1 + 0.2, "seconds": 3.0, "held_out/accuracy": None}


def test_rewinding_drops_later_metrics_and_samples(tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("rl")
    for path in (stage.metrics, stage.samples):
        with JsonLinesWriter(path) as log:
            for step in (1, 2, 2, 3):
                log.append({"step": step})
    stage.rewind(2)
    assert [len(read_json_lines(path)) for path in (stage.metrics, stage.samples)] == [3, 3]
    stage.rewind(None)
    assert stage.metrics.read_text() == stage.samples.read_text() == ""


def test_finishing_waits_for_the_disk_but_not_again_for_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[str] = []
    stage = RunDirectory(tmp_path).stage("sft").create()
    for file in (stage.model / "weights", stage.checkpoints / "step-00000001/model"):
        file.parent.mkdir(parents=True)
        file.touch()
    monkeypatch.setattr(
        "plaudit.runs.directory.synchronize", lambda path: waited.append(str(path.relative_to(stage.folder)))
    )
    stage.finish({})
    assert sorted(waited) == [".", "manifest.json", "model", "model/weights"]


@pytest.mark.parametrize("content", [None, "", "null", '{"step": 1}\n'])
def test_lost_metrics_before_the_checkpoint_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None
) -> None:
    stage = RunDirectory(tmp_path).stage("sft").create()
    if content is not None:
        stage.metrics.write_text(content)
    stage.rewind(2)
    assert f"{stage.metrics}: lacks what was measured up to step 2" in capsys.readouterr().err


def test_restarting_a_stage_also_removes_the_report_about_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = opened(tmp_path / "run", report={})
    for stage in ("sft", "report"):
        begin(run, stage)
    opened(tmp_path / "run", restart_stages=["report"], report={})
    assert run.stage("sft").folder.exists()
    begin(run, "report")
    opened(tmp_path / "run", restart_stages=["sft"], report={})
    assert not run.stage("report").folder.exists()
    assert str(run.stage("report").folder) in caplog.messages[-1]
