"""Python code in the main process stops a run of two processes: both end, with a checkpoint, and the run resumes."""

from pathlib import Path

import pytest

from distributed_runs import checkpoints, metrics, uneven_recipe
from two_processes import TwoProcesses

CODE = """
import sys
import plaudit

recipe, way, distributed = sys.argv[1:]
arguments = recipe, "processes=2", f"distributed={distributed}", "pretrain.checkpoint_every=100"

def stop(stage, line):
    if line["step"] == 2:
        raise plaudit.Stop

if way == "Stop":
    plaudit.run(*arguments, only="pretrain", on_metrics=stop)
elif way == "break":
    for stage, line in plaudit.iterate(*arguments, only="pretrain"):
        if line["step"] == 2:
            break
else:
    plaudit.run(*arguments, only="pretrain")
print("process ended")
"""


@pytest.mark.parametrize("way, distributed", [("Stop", "replicated"), ("break", "fsdp2")])
def test_both_processes_stop_with_a_checkpoint_and_resume(tmp_path: Path, way: str, distributed: str) -> None:
    recipe, stage = str(uneven_recipe(tmp_path)), tmp_path / "runs" / "tiny" / "pretrain"
    output = TwoProcesses("-c", CODE, recipe, way, distributed).finish()
    assert output.count("process ended") == 2
    assert [path.name for path in checkpoints(stage)] == ["step-00000002"]
    assert [line["step"] for line in metrics(stage.parent, "pretrain")] == [0, 1, 2]
    assert not (stage / "result.json").exists()
    output = TwoProcesses("-c", CODE, recipe, "go on", distributed).finish()
    assert "pretrain: continuing after step 2 of " in output
    assert output.count("process ended") == 2
    assert (stage / "result.json").exists()
