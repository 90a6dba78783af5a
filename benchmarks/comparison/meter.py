"""Measures time and memory of a loop, without loading and saving.

Imports only the standard library and torch, because every environment runs it.
"""

import json
import resource
import sys
import time
from functools import wraps
from pathlib import Path
from typing import Any

import torch


class Meter:
    """A stopwatch of wall and CPU seconds that can be stopped and started again.

    On ``cuda`` it waits for the device before it reads the clock, and measures the peak of the device's memory.
    """

    def __init__(self, device: str = "cpu") -> None:
        self.device = device
        self.seconds = self.cpu_seconds = 0.0
        self.peak_bytes = 0
        self._since: tuple[float, float] | None = None

    def start(self) -> None:
        """Start the stopwatch."""
        assert self._since is None
        self._wait()
        self._since = time.perf_counter(), _cpu_seconds()

    def stop(self) -> None:
        """Stop the stopwatch."""
        assert self._since is not None
        self._wait()
        wall, cpu = self._since
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += _cpu_seconds() - cpu
        self.peak_bytes = peak_bytes(self.device)
        self._since = None

    def _wait(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def measure(self, owner: Any, name: str) -> None:
        """Measure while ``owner.name`` runs."""
        function = getattr(owner, name)

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            self.start()
            try:
                return function(*arguments, **options)
            finally:
                self.stop()

        setattr(owner, name, timed)

    def numbers(self) -> dict[str, float]:
        """Return the measurements."""
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds, "peak_bytes": self.peak_bytes}

    def write(self, path: Path, **counted: Any) -> None:
        """Write measurements and counts as JSON."""
        path.write_text(json.dumps(self.numbers() | counted), encoding="utf-8")


def peak_bytes(device: str) -> int:
    """Return the peak memory of this process. ``getrusage`` would include the parent's."""
    if device == "cuda":
        return torch.cuda.max_memory_reserved()
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_task() -> tuple[dict[str, Any], Path]:
    """Return the task that the parent process wrote, and the path where it expects the result."""
    return json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2])
