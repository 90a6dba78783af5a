"""Python commands in processes that are forked from one that has imported everything.

Most of the time of a short command is spent in imports. Apart from them, it runs as in a new process, with another
environment and working directory, and can be killed.
"""

import atexit
import multiprocessing
import os
import runpy
import sys
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

from child_processes import child_environment

_CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")


def _start_server() -> None:
    """Start the process that imports everything, unless it runs; errors of its imports would not be shown."""
    _CONTEXT.set_forkserver_preload(["warm_imports"])
    before = dict(os.environ)
    os.environ.update(child_environment())
    forkserver.ensure_running()
    os.environ.clear()
    os.environ.update(before)


class ForkedCommand:
    """``python ARGUMENTS``, with the methods of ``subprocess.Popen``; errors are part of the output."""

    def __init__(self, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
        _start_server()
        handle, self._output = tempfile.mkstemp()
        os.close(handle)
        variables = {**child_environment(), **(environment or {})}
        self._process = _CONTEXT.Process(
            target=_run, args=(arguments, variables, os.getcwd(), self._output), daemon=True
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float = 300) -> tuple[str, None]:
        """Wait, and return the output."""
        self._process.join(timeout)
        assert self._process.exitcode is not None, f"still running after {timeout} s"
        output = Path(self._output)
        text = output.read_text() if output.exists() else ""
        output.unlink(missing_ok=True)
        return text, None


def _run(arguments: Sequence[str], environment: Mapping[str, str], folder: str, output: str) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    stream = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(stream, 1)
    os.dup2(stream, 2)
    assert "warm_imports" in sys.modules
    import torch

    torch.set_num_threads(1)
    try:
        _execute(*arguments)
    finally:
        atexit._run_exitfuncs()


def _execute(first: str, *rest: str) -> None:
    if first == "-m":
        sys.argv = list(rest)
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif first == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(compile(rest[0], "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.argv = [first, *rest]
        sys.path.insert(0, str(Path(first).parent))
        runpy.run_path(first, run_name="__main__")
