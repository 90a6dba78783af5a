"""Runs a command and measures CPU time and memory of its processes. Linux only."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Usage:
    """What a command used, with its child processes.

    ``peak_bytes`` and ``anonymous_bytes`` are peaks of the sum over processes, sampled every ``POLL_SECONDS``: all
    resident memory, and without mapped files, whose pages the system takes back when it needs them.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    anonymous_bytes: int
    output: str


def watched(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and return what it used. Ends the program if the command fails."""
    began, before = time.perf_counter(), os.times()
    peak = anonymous = 0
    with TemporaryFile("w+", encoding="utf-8") as log:
        given = {**os.environ, **(environment or {})}
        process = subprocess.Popen(command, env=given, stdout=log, stderr=subprocess.STDOUT)
        while process.poll() is None:
            resident, own = _memory(process.pid)
            peak, anonymous = max(peak, resident), max(anonymous, own)
            time.sleep(POLL_SECONDS)
        after = os.times()
        log.seek(0)
        output = log.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}: failed\n{output[-3000:]}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return Usage(time.perf_counter() - began, used, peak, anonymous, output)


def _memory(pid: int, parent: bytes = b"") -> tuple[int, int]:
    """Return the resident and the anonymous bytes of a process and its descendants."""
    resident = anonymous = 0
    folder = Path(f"/proc/{pid}")
    try:
        status, command = (folder / "status").read_text(encoding="utf-8"), (folder / "cmdline").read_bytes()
        children = (folder / "task" / str(pid) / "children").read_text(encoding="utf-8").split()
    except (FileNotFoundError, ProcessLookupError):  # it ended
        return 0, 0
    if command == parent:  # a new process that still has its parent's memory
        return 0, 0
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "VmRSS":
            resident = int(value.split()[0]) * 1024
        elif name == "RssAnon":
            anonymous = int(value.split()[0]) * 1024
    parts = [(resident, anonymous), *(_memory(int(child), command) for child in children)]
    return sum(part[0] for part in parts), sum(part[1] for part in parts)
