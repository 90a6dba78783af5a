"""Messages about a run, which the logger ``plaudit`` and its children write to standard error.

Results, such as the table of an evaluation, go to standard output instead.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

LOGGER = logging.getLogger("plaudit")


@cache
def console() -> "Console":
    """Return the console on standard error: colours and bars on a terminal, plain lines in a pipe or a notebook."""
    from rich.console import Console

    return Console(stderr=True, highlight=False, force_jupyter=False)


class MessageHandler(logging.Handler):
    """Writes messages without wrapping lines; warnings and errors begin with their level."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        from rich.text import Text

        is_warning = record.levelno >= logging.WARNING
        style = "dim" if record.levelno < logging.INFO else ""
        text = Text(self.format(record), style=style)
        if is_warning:
            text = Text.assemble((f"{record.levelname.lower()}:", "bold yellow"), " ", text)
        console().print(text, soft_wrap=True)


def show_messages(level: int = logging.INFO) -> None:
    """From now on, write messages of at least this level to standard error."""
    if not any(isinstance(handler, MessageHandler) for handler in LOGGER.handlers):
        LOGGER.addHandler(MessageHandler())
    LOGGER.setLevel(level)


def show_messages_by_default() -> None:
    """Write messages, unless the program that imports Plaudit has set up logging."""
    if not LOGGER.hasHandlers():
        show_messages()


@contextmanager
def only_warnings() -> Iterator[None]:
    """Hide progress and messages below a warning while this is active."""
    level = LOGGER.level
    LOGGER.setLevel(logging.WARNING)
    try:
        yield
    finally:
        LOGGER.setLevel(level)
