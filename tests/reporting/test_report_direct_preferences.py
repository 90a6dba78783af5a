"""The stage dpo in the report: its curves, its samples, its headline."""

from pathlib import Path

from plaudit.config.schema import ReportConfig
from plaudit.reporting.page import page
from plaudit.reporting.panels import panels
from plaudit.reporting.reading import read_run
from plaudit.reporting.tables import headline
from report_runs import write_lines

METRICS = ("loss", "accuracy", "margin", "chosen_reward", "rejected_reward", "chosen_log_probability", "drift")


def write_stage(folder: Path) -> None:
    rows = []
    for step in range(3):
        held_out = {f"held_out/{name}": 0.5 + 0.1 * step for name in METRICS}
        rows.append({"step": step, **(dict.fromkeys(METRICS, 0.5) if step else {}), **held_out, "learning_rate": 1e-3})
    write_lines(folder / "dpo" / "metrics.jsonl", rows)
    sample = {"step": 2, "prompt": "Is the museum open?", "response": " Until six.", "scores": {}}
    write_lines(folder / "dpo" / "samples.jsonl", [sample])


def test_its_curves_and_samples_are_shown(tmp_path: Path) -> None:
    write_stage(tmp_path)
    run = read_run(tmp_path)
    shown = {panel.title: panel for panel in panels(run.stage("dpo"), run.config)}
    assert list(shown) == [
        "Accuracy",
        "Loss",
        "Margin",
        "Implicit rewards",
        "Log-probability of the best responses",
        "Drift",
        "Learning rate",
    ]
    assert [line.label for line in shown["Margin"].lines] == ["training", "held out"]
    assert [line.label for line in shown["Implicit rewards"].lines] == ["better", "worse"]
    text = page(run, ReportConfig())
    assert "Direct preference optimization" in text
    assert "Until six." in text


def test_its_accuracy_makes_the_headline(tmp_path: Path) -> None:
    write_stage(tmp_path)
    expected = "held-out accuracy of the implicit rewards 0.50 → 0.70; from step 0 to step 2"
    assert str(headline(read_run(tmp_path))) == expected
