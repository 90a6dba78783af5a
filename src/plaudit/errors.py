"""The one error that users see: a line with the place and the remedy, never a traceback."""


class PlauditError(Exception):
    """Something the user can put right; the command line prints the message as one line and exits with code 2."""


def one_line(fault: BaseException) -> str:
    """Return an exception's type and its whole text on one line."""
    text = " ".join(str(fault).split())
    return f"{type(fault).__name__}: {text}" if text else type(fault).__name__
