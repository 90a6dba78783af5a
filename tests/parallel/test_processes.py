"""What the main process does alone: its result reaches every process, and so does its error."""

from pathlib import Path

import pytest
import torch

from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.parallel.processes import OneProcess
from plaudit.runs.directory import RunDirectory
from tiny_runs import tiny_recipe
from two_processes import TwoProcesses


def test_one_process_gets_its_own_result_and_its_own_error() -> None:
    processes = OneProcess(torch.device("cpu"))
    assert processes.from_main(lambda: 7) == 7
    error = KeyError("gone")

    def fail() -> None:
        raise error

    with pytest.raises(KeyError) as raised:
        processes.from_main(fail)
    assert raised.value is error


def test_every_process_ends_with_the_error_of_the_main_process(tmp_path: Path) -> None:
    """Only the main process reads the checkpoints; without the error the other one would wait for it for hours."""
    recipe = tiny_recipe(tmp_path)
    overrides = ["processes=2", "distributed=replicated"]
    run = RunDirectory(tmp_path / "runs/tiny")
    run.open(load_recipe(str(recipe), overrides))
    run.close()
    damaged = run.stage("pretrain").checkpoints / "step-00000001"
    damaged.mkdir(parents=True)
    (damaged / "manifest.json").write_text("{}")
    started = TwoProcesses("-m", "plaudit", "pretrain", str(recipe), *overrides)
    outputs = [process.communicate(timeout=300)[0] for process in started.processes]
    assert [process.returncode for process in started.processes] == [2, 2], outputs
    for output in outputs:
        message = output.rstrip("\n").split("\n")[-1]
        assert message.startswith(f"{damaged.parent}: every checkpoint is damaged; ")


@pytest.mark.parametrize("fault, code", [("raise PlauditError('known')", 0), ("raise KeyError('unknown')", 1)])
def test_from_main_in_two_processes(fault: str, code: int) -> None:
    program = f"""
from plaudit.errors import PlauditError
from plaudit.parallel.processes import start_processes

def fail():
    {fault}

processes = start_processes(2, "cpu")
assert processes.from_main(lambda: processes.rank + 5) == 5
try:
    processes.from_main(fail)
except PlauditError as error:
    print("told:", error)
"""
    started = TwoProcesses("-c", program)
    outputs = [process.communicate(timeout=300)[0] for process in started.processes]
    text = "known" if code == 0 else "the main process failed: KeyError: 'unknown'"
    assert [process.returncode for process in started.processes] == [code, 0], outputs
    assert f"told: {text}" in outputs[1]


def test_the_error_is_one_that_users_can_read() -> None:
    with pytest.raises(PlauditError, match="known"):
        OneProcess(torch.device("cpu")).from_main(_known)


def _known() -> None:
    raise PlauditError("known")
