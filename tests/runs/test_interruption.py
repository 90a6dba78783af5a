import os
import signal
import subprocess
import sys
import threading

import pytest

from plaudit.errors import Interrupted
from plaudit.runs.interruption import Interruption


@pytest.mark.parametrize("number, exit_code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_becomes_a_flag(number: int, exit_code: int) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interruption() as interruption:
        assert not interruption.requested
        os.kill(os.getpid(), number)
        assert interruption.requested
        assert interruption.signal_number == number
    stop = Interrupted(number)
    assert signal.Signals(number).name in str(stop)
    assert stop.exit_code == exit_code
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_a_second_ctrl_c_stops_at_once_and_the_handlers_are_restored(first: int) -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interruption():
        os.kill(os.getpid(), first)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) == before


def test_a_second_sigterm_has_no_effect() -> None:
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.signal_number == signal.SIGINT


def test_in_another_thread_it_has_no_effect() -> None:
    requested = []

    def use() -> None:
        with Interruption() as interruption:
            requested.append(interruption.requested)

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert requested == [False]
    assert signal.getsignal(signal.SIGINT) == before


STEPS = """
import time
from plaudit.runs.interruption import Interruption

with Interruption() as interruption:
    print("ready", flush=True)
    while not interruption.requested:
        time.sleep(0.01)
    print("the step was finished", flush=True)
"""


def test_a_process_finishes_its_step_and_reports_it() -> None:
    command = [sys.executable, "-c", STEPS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        output, errors = process.communicate()
    assert (process.returncode, output) == (0, "the step was finished\n")
    assert errors.count("Stopping after this step") == 1
