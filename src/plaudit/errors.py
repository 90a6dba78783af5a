"""The exceptions that end a run with a one-line message instead of a traceback."""

import signal
from collections.abc import Sequence

SHOWN_PROBLEMS = 5


class PlauditError(Exception):
    """An error that the user can fix; the command line prints the message as one line and exits with code 2."""


class Interrupted(Exception):  # noqa: N818 - an interruption by the user is not an error
    """The run was interrupted and has written a checkpoint.

    ``exit_code`` follows the shell's convention of 128 + signal: 130 after Ctrl-C (SIGINT), 143 after SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} with a checkpoint; the same command resumes the run")
        self.exit_code = 128 + signal_number


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
