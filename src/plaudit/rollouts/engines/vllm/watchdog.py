"""Runs a command, and kills it with all its processes when the parent process ends, however it ends.

    python watchdog.py FOLDER COMMAND ARGUMENTS…

The parent starts this file in a new session and holds the other end of its standard input. That end closes when the
parent closes it or dies, also by SIGKILL. FOLDER, in which the parent leaves weights, is then deleted. The file imports
the standard library alone and is run by its path.
"""

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

GRACE = 5  # seconds for the command to end by itself


def main(folder: str, command: Sequence[str]) -> None:
    """Run the command until it ends or the parent does; then kill the whole process group, and so this process."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_after_parent, args=[child, folder], daemon=True).start()
    code = child.wait()
    print(f"the server's process ended with exit code {code}", file=sys.stderr, flush=True)
    os.killpg(0, signal.SIGKILL)


def _stop_after_parent(child: "subprocess.Popen[bytes]", folder: str) -> None:
    sys.stdin.buffer.read()  # returns when the parent has closed it
    shutil.rmtree(folder, ignore_errors=True)
    child.terminate()
    try:
        child.wait(GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
