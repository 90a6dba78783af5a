"""Reading run folders, including partial, interrupted and damaged ones."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from plaudit.errors import PlauditError
from plaudit.reporting.reading import read_run
from plaudit.runs.directory import RunDirectory
from report_runs import write_lines, write_object, write_run


def points(folder: Path, stage: str) -> dict[str, dict[int, float]]:
    """Return the values of a stage's metrics by step."""
    metrics = read_run(folder).stage(stage).metrics
    found = {name: dict(zip(series.steps, series.values, strict=True)) for name, series in metrics.items()}
    return {name: values for name, values in found.items() if values}


def test_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PlauditError, match="nowhere: no such run folder"):
        read_run(tmp_path / "nowhere")


def test_empty_folder_is_an_empty_run(tmp_path: Path) -> None:
    run = read_run(tmp_path)
    assert (run.name, run.summary, run.stages, run.simulated) == (tmp_path.name, {}, {}, False)


def test_stages_come_in_the_order_of_the_flow(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path / "run"))
    assert list(run.stages) == ["world", "pretrain", "sft", "reward", "rl", "evaluate"]
    assert run.name == "concierge"


def test_series_skips_absent_and_non_finite_values(tmp_path: Path) -> None:
    losses: list[dict[str, Any]] = [{"step": 1, "loss": 2.0}, {"step": 3, "loss": math.nan}, {"step": 4, "loss": 1}]
    rows = [*losses, {"step": 2, "other": 1.0}]
    write_lines(tmp_path / "sft" / "metrics.jsonl", rows)
    series = read_run(tmp_path).stage("sft").series("loss")
    assert (list(series.steps), list(series.values)) == ([1, 4], [2.0, 1.0])


def test_lines_of_one_step_are_merged_and_repetitions_replace(tmp_path: Path) -> None:
    rows = [
        {"step": 2, "loss": 9.0},
        {"step": 1, "loss": 3.0},
        {"step": 2, "loss": 2.0},
        {"step": 2, "held_out/loss": 2.5},
    ]
    write_lines(tmp_path / "sft" / "metrics.jsonl", rows)
    assert points(tmp_path, "sft") == {"loss": {1: 3.0, 2: 2.0}, "held_out/loss": {2: 2.5}}


def test_a_repetition_without_a_value_removes_it(tmp_path: Path) -> None:
    losses = [(1, 9.0), (1, None), (2, 10**400), (3, 1)]
    rows = [{"step": step, "loss": loss} for step, loss in losses]
    write_lines(tmp_path / "sft" / "metrics.jsonl", rows)
    assert points(tmp_path, "sft") == {"loss": {3: 1.0}}


def test_the_most_frequent_prompts_are_shown_from_their_first_step_to_their_last(tmp_path: Path) -> None:
    counts = {"a": 3, "b": 40, "c": 2, "d": 11}
    rows = [
        {"step": step, "prompt": prompt, "response": f"{prompt} at {step}"}
        for prompt, count in counts.items()
        for step in range(count, 0, -1)
    ]
    write_lines(tmp_path / "rl" / "samples.jsonl", rows)
    shown = read_run(tmp_path).stage("rl").samples
    assert [[(sample["prompt"], sample["step"]) for sample in samples] for samples in shown] == [
        [("b", 1), ("b", 11), ("b", 21), ("b", 30), ("b", 40)],
        [("d", 1), ("d", 3), ("d", 6), ("d", 9), ("d", 11)],
        [("a", 1), ("a", 2), ("a", 3)],
    ]
    assert shown[1][2]["response"] == "d at 6"


def test_half_a_last_line_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "rl" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text('{"step": 1, "kl": 0.5}\n{"step": 2, "k', encoding="utf-8")
    assert points(tmp_path, "rl") == {"kl": {1: 0.5}}


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rl" / "metrics.jsonl"
    path.parent.mkdir()
    path.write_text('{"step": 1}\n{oops}\n', encoding="utf-8")
    with pytest.raises(PlauditError, match=r"metrics\.jsonl, line 2: not a JSON object"):
        read_run(tmp_path)


@pytest.mark.parametrize(
    "file, content",
    [("result.json", '{"loss": 1.0}\n'), ("metrics.jsonl", '{"step": 1}\n'), ("notes.json", '{"notes": ["all fine"]}')],
)
def test_files_that_changed_after_their_stage_finished_are_named(tmp_path: Path, file: str, content: str) -> None:
    stage = RunDirectory(tmp_path).stage("sft").create()
    stage.metrics.write_text('{"step": 2}\n')
    stage.write_notes(["all is well"])
    stage.finish({"loss": 2.0})
    assert read_run(tmp_path).stage("sft").result == {"loss": 2.0}
    (stage.folder / file).write_text(content)
    with pytest.raises(PlauditError, match=f"sft/{file}: .*manifest.*; restore it from a copy, or|bytes instead of"):
        read_run(tmp_path)


def test_the_report_says_what_it_cannot_verify(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    stage = RunDirectory(tmp_path).stage("sft").create()
    stage.finish({"loss": 2.0})
    assert not caplog.messages
    (stage.folder / "manifest.json").unlink()
    assert read_run(tmp_path).stage("sft").result == {"loss": 2.0}
    assert caplog.messages == [
        f"{stage.folder / 'manifest.json'}: missing, so the report shows numbers of sft that are not verified"
    ]


def test_a_line_without_a_step_is_named(tmp_path: Path) -> None:
    write_lines(tmp_path / "rl" / "metrics.jsonl", [{"kl": 1.0}])
    with pytest.raises(PlauditError, match="line 1: has no integer step; delete the line"):
        read_run(tmp_path)


def test_a_damaged_configuration_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("a: [", encoding="utf-8")
    with pytest.raises(PlauditError, match=r"config\.yaml: not valid YAML"):
        read_run(tmp_path)


def test_sources_that_were_trained_on(tmp_path: Path) -> None:
    write_lines(tmp_path / "rl" / "metrics.jsonl", [{"step": 1, "reward/mean": 0, "reward/std": 1, "reward/vader": 0}])
    assert read_run(tmp_path).trained_on == ["vader"]


@pytest.mark.parametrize("simulated", [True, False])
def test_the_summary_says_whether_a_run_is_simulated(tmp_path: Path, simulated: bool) -> None:
    write_object(tmp_path / "evaluate" / "summary.json", {"simulated": simulated})
    assert read_run(tmp_path).simulated is simulated


def test_a_run_with_a_world_is_simulated_before_it_is_evaluated(tmp_path: Path) -> None:
    (tmp_path / "world").mkdir()
    (tmp_path / "metadata.json").write_text(json.dumps({}), encoding="utf-8")
    assert read_run(tmp_path).simulated


def test_sources_with_weight_zero_were_not_trained_on(tmp_path: Path) -> None:
    (tmp_path / "rl").mkdir()
    line = {"step": 1, "kl": 0.1, "reward/mean": 1.0, "reward/std": 1.0, "reward/learned": 1.0, "reward/gold": 0.5}
    (tmp_path / "rl/metrics.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "config.yaml").write_text("rl: {rewards: [{name: learned}, {name: gold, weight: 0}]}\n")
    run = read_run(tmp_path)
    assert run.trained_on == ["learned"]
    assert run.watched == ["gold"]


def test_changed_metrics_of_a_finished_stage_are_refused(tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("sft").create()
    write_lines(stage.metrics, [{"step": 1, "loss": 2.0}])
    stage.finish({"steps": 1})
    assert points(tmp_path, "sft") == {"loss": {1: 2.0}}
    write_lines(stage.metrics, [{"step": 1, "loss": 1.0}])
    with pytest.raises(PlauditError, match=rf"^{stage.metrics}: checksum differs .* repeat the stage sft"):
        read_run(tmp_path)


def test_a_sample_without_texts_is_named(tmp_path: Path) -> None:
    stage = RunDirectory(tmp_path).stage("sft").create()
    write_lines(stage.samples, [{"step": 1, "prompt": "a", "response": 1}])
    with pytest.raises(PlauditError, match=rf"^{stage.samples}, line 1: has no texts of prompt and response"):
        read_run(tmp_path)
