"""Hostile commands: known exit codes, one line per problem that names the file, and never a traceback.

Some cases are tried by default; ``PLAUDIT_FUZZ_CASES=2000 pytest tests/fuzz/test_hostile.py`` tries all.
"""

import io
import os
import random
import signal
from pathlib import Path

import pytest

from command_line import run_command
from hostile.cases import cases
from hostile.worlds import World, make_world

EXIT_CODES = (0, 1, 2, 130, 143)
LIMIT = 120
"""Seconds after which a command that waits forever is ended, and the tests with it."""
CASES = cases()
NUMBER = min(int(os.environ.get("PLAUDIT_FUZZ_CASES", "20")), len(CASES))
CHOSEN = random.Random(os.environ.get("PLAUDIT_FUZZ_SEED", "0")).sample(sorted(CASES), NUMBER)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("name", CHOSEN)
def test_hostile_commands_end_in_one_line(
    name: str, world: World, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    monkeypatch.setattr("sys.stdin", io.StringIO("w1 w2\n"))
    command = CASES[name](world, tmp_path)
    signal.alarm(LIMIT)
    code, output, errors = run_command(capfd, monkeypatch, *command.arguments)
    signal.alarm(0)
    print(f"exit code {code}: {errors}")
    assert code in EXIT_CODES
    assert "Traceback" not in output + errors
    if code == 2 and command.named:
        assert command.named in errors.rstrip("\n").splitlines()[-1]
