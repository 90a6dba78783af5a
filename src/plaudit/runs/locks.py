"""Locks that prevent two processes from writing the same run."""

import os
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from plaudit.errors import PlauditError

FOLDER = ".locks"


def locked(run_folder: Path) -> BaseFileLock:
    """Lock a run for this process and return the lock; the operating system releases it when the process ends.

    The lock is a file next to the run's folder, so that the folder can be renamed while it is locked. Raises
    ``PlauditError`` with the id of the other process if the run is already locked.
    """
    folder = run_folder.resolve().parent / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    lock, holder = FileLock(folder / f"{run_folder.resolve().name}.lock"), folder / f"{run_folder.resolve().name}.pid"
    try:
        lock.acquire(blocking=False)
    except Timeout:
        process = holder.read_text(encoding="utf-8") if holder.exists() else "unknown"
        raise PlauditError(
            f"{run_folder}: process {process} is already writing this run; wait for it or stop it"
        ) from None
    holder.write_text(str(os.getpid()), encoding="utf-8")
    return lock
