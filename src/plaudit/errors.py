"""The exceptions that end a run with a one-line message instead of a traceback."""

import errno
import os
import re
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SHOWN_PROBLEMS = 5


class PlauditError(Exception):
    """An error that the user can fix; the command line prints the message as one line and exits with code 2."""


class Interrupted(Exception):  # noqa: N818 - an interruption by the user is not an error
    """The run was interrupted. The same call or command resumes it.

    Attributes:
        checkpoint: whether a checkpoint was written; there is none before the stage's first step.
        signal_number: the signal that interrupted the run; None if the main process's Python code stopped it.
        exit_code: by the shell's convention 128 + signal: 130 after Ctrl-C (SIGINT), 143 after SIGTERM; otherwise 0.
    """

    def __init__(self, signal_number: int | None, *, checkpoint: bool = True) -> None:
        by = f"by {signal.Signals(signal_number).name} " if signal_number else ""
        state = "with a checkpoint" if checkpoint else "before the stage's first step"
        super().__init__(f"stopped {by}{state}; the same command resumes the run")
        self.checkpoint = checkpoint
        self.signal_number = signal_number
        self.exit_code = 128 + signal_number if signal_number else 0


class Stop(Exception):  # noqa: N818 - as above
    """Raised by a function ``on_metrics`` to stop the run after this step, with a checkpoint.

    The call then returns the unfinished run. The same call or command resumes it.
    """


class Terminated(BaseException):
    """SIGTERM outside of training; the command ends with exit code 143. As Ctrl-C, it is not an ``Exception``."""


_RESUMES = "then run the same command again: it continues after the last checkpoint, which is intact"
_ACCESS = "change its permissions, or choose another place"
_REMEDIES = {
    errno.ENOSPC: f"free some space, {_RESUMES}",
    errno.EDQUOT: f"free some of your quota, {_RESUMES}",
    errno.EFBIG: f"raise the limit of file sizes (ulimit -f), {_RESUMES}",
    errno.EIO: f"check the disk, {_RESUMES}",
    errno.EROFS: "choose another place, such as another `output`",
    errno.EACCES: _ACCESS,
    errno.EPERM: _ACCESS,
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a file is in the place of a folder; choose another place",
    errno.EEXIST: "a file is in the way; choose another place",
    errno.EMFILE: f"raise the limit of open files (ulimit -n), {_RESUMES}",
}
# Libraries written in Rust report errors of the operating system by number, under an exception of their own.
_NUMBERED = re.compile(r"\(os error (\d+)\)")


@contextmanager
def errors_of_the_system(place: Path | None = None) -> Iterator[None]:
    """Raise PlauditError, with path and remedy, for every error of the operating system except a lack of memory.

    ``place`` is the path if the error itself has none, as when a disk fills up while a file is written.
    """
    try:
        yield
    except (PlauditError, Interrupted):
        raise
    except Exception as error:
        problem = system_problem(error, place)
        if problem is None:
            raise
        raise PlauditError(problem) from error


def system_problem(error: Exception, place: Path | None = None) -> str | None:
    """Return path, problem and remedy of an error of the operating system; None for other errors and lack of memory.

    ``place`` is the path if the error itself has none.
    """
    if isinstance(error, OSError):
        number, path = error.errno, error.filename
    elif found := _NUMBERED.search(str(error)):
        number, path = int(found[1]), None
    else:
        return None
    if number in (errno.ENOMEM, errno.EPIPE):
        return None
    reason = one_line(error) if number is None else os.strerror(number)
    shown = os.fsdecode(path) if isinstance(path, str | bytes) else place
    text = f"{shown}: {reason}" if shown else reason
    return f"{text}; {_REMEDIES[number]}" if number in _REMEDIES else text


def all_of(problems: Sequence[str]) -> PlauditError:
    """Return an error with a line for each different problem, the first few of them."""
    different = list(dict.fromkeys(problems))
    shown = different[:SHOWN_PROBLEMS]
    if len(different) > len(shown):
        shown.append(f"… and {len(different) - len(shown)} more problems")
    return PlauditError("\n".join(shown))


def one_line(fault: BaseException) -> str:
    """Return an exception's type and its complete text on one line."""
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
