"""The one error that users see: a line with the place and the remedy, never a traceback."""


class PlauditError(Exception):
    """Something the user can put right; the command line prints the message as one line and exits with code 2."""
