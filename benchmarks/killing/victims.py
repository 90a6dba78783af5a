"""Processes that run ``plaudit`` and end by SIGKILL at a chosen file operation.

They are forked from this process, which has imported everything already and has used no tensor yet. What a child does
to files is counted from outside, by Python's audit events and wrappers; the package knows nothing of it.
"""

import atexit
import gc
import importlib
import io
import os
import pkgutil
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

KINDS = ("open", "write", "fsync", "rename", "unlink", "mkdir", "weights")
"""Operations on files of a run: ``weights`` is the writing of a safetensors file, half of which is on the disk then."""

IMPORTED = (
    *("peft", "jinja2", "matplotlib.figure", "numba", "torch.distributed.nn.functional", "torch.distributed.fsdp"),
    *("transformers.models.llama.modeling_llama", "transformers.models.auto.modeling_auto"),
)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_AUDITED = {"os.rename": "rename", "os.remove": "unlink", "os.rmdir": "unlink", "os.mkdir": "mkdir"}


def import_everything() -> None:
    """Import what runs need, so that forked children need not."""
    import plaudit

    names = [module.name for module in pkgutil.walk_packages(plaudit.__path__, "plaudit.")]
    optional = ("vllm", "__main__")
    for name in (*IMPORTED, *(name for name in names if not any(part in name for part in optional))):
        importlib.import_module(name)
    gc.freeze()


@dataclass(frozen=True)
class Fatal:
    """The ``number``-th operation of a kind, counted from 1, in one process; the process dies before or in it."""

    rank: int
    kind: str
    number: int


class Operations:
    """Records what this process does to files below a folder, one line each, and dies at one of these operations."""

    def __init__(self, folder: Path, record: Path, fatal: tuple[str, int] | None) -> None:
        self._folder = f"{folder}{os.sep}"
        self._record = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._fatal = fatal
        self._counts = dict.fromkeys(KINDS, 0)

    def watch(self) -> None:
        """Begin. Never ends."""
        saving: Any = importlib.import_module("safetensors.torch")
        sys.addaudithook(self._audit)
        io.open = self._watching_writes(io.open)
        os.fsync = self._before("fsync", os.fsync)
        saving.serialize_file = self._in_the_middle(saving.serialize_file)

    def _happens(self, kind: str, path: Any) -> bool:
        """Record an operation on a path or descriptor; return whether the process is to die at it."""
        if isinstance(path, int):
            path = os.readlink(f"/proc/self/fd/{path}")
        path = os.fsdecode(path)
        # shutil.rmtree removes by the name in an open folder.
        if not path.startswith(self._folder) and (os.sep in path or kind != "unlink"):
            return False
        self._counts[kind] += 1
        os.write(self._record, f"{kind} {path}\n".encode())
        return self._fatal == (kind, self._counts[kind])

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        kind = _AUDITED.get(event)
        if event == "open" and not isinstance(arguments[0], int) and arguments[2] & _WRITES:
            kind = "open"
        if kind is not None and self._happens(kind, arguments[0]):
            die()

    def _before(self, kind: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *arguments: Any) -> Any:
            if self._happens(kind, path):
                die()
            return function(path, *arguments)

        return watched

    def _watching_writes(self, opened: Callable[..., Any]) -> Callable[..., Any]:
        def watched(path: Any, *arguments: Any, **options: Any) -> Any:
            file = opened(path, *arguments, **options)
            if not isinstance(path, int) and file.writable():
                write = file.write

                def watched_write(content: Any) -> Any:
                    if self._happens("write", path):
                        write(content[: len(content) // 2])
                        file.flush()
                        die()
                    return write(content)

                file.write = watched_write
            return file

        return watched

    def _in_the_middle(self, write_file: Callable[..., Any]) -> Callable[..., Any]:
        def watched(tensors: Any, path: Any, *arguments: Any, **options: Any) -> Any:
            result = write_file(tensors, path, *arguments, **options)
            if self._happens("weights", path):
                os.truncate(path, os.path.getsize(path) // 2)
                die()
            return result

        return watched


def die() -> NoReturn:
    """End this process by SIGKILL."""
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


class Victims:
    """The processes of one run of ``plaudit``."""

    def __init__(self, arguments: Sequence[str], processes: int, folder: Path, fatal: Fatal | None = None) -> None:
        self._folder = folder
        environment = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port())}
        self.running: dict[int, int] = {}
        self.codes: dict[int, int] = {}
        for rank in range(processes):
            ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            own = (fatal.kind, fatal.number) if fatal is not None and fatal.rank == rank else None
            if pid := os.fork():
                self.running[rank] = pid
            else:
                self._run(arguments, environment | ranks if processes > 1 else {}, rank, own)

    def _run(
        self, arguments: Sequence[str], environment: dict[str, str], rank: int, fatal: tuple[str, int] | None
    ) -> NoReturn:
        code = 70
        try:
            log = os.open(self.log(rank), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            os.environ.update(environment)
            sys.argv = ["plaudit", *arguments]
            Operations(self._folder / "runs", self.record(rank), fatal).watch()
            from plaudit.cli.main import main

            main()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            atexit._run_exitfuncs()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def log(self, rank: int) -> Path:
        """Return the file with what a process prints."""
        return self._folder / f"process-{rank}.log"

    def record(self, rank: int) -> Path:
        """Return the file with the operations of a process."""
        return self._folder / f"process-{rank}.operations"

    def wait(self, seconds: float = 600.0) -> bool:
        """Wait until a process was killed or all have ended, at most some seconds; return whether that is so."""
        end = time.monotonic() + seconds
        while self.running and -signal.SIGKILL not in self.codes.values():
            self._collect()
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def kill(self, rank: int) -> None:
        """Kill a process."""
        os.kill(self.running[rank], signal.SIGKILL)

    def end(self, patience: float = 3.0) -> None:
        """End the other processes as a launcher does: by SIGTERM, and after a while by SIGKILL."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for pid in self.running.values():
                os.kill(pid, number)
            end = time.monotonic() + patience
            while self.running and (number == signal.SIGKILL or time.monotonic() < end):
                self._collect()
                time.sleep(0.002)

    def _collect(self) -> None:
        for rank, pid in list(self.running.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self.codes[rank] = os.waitstatus_to_exitcode(status)
                del self.running[rank]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
