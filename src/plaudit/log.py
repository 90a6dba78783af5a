"""Messages about a run, which the logger ``plaudit`` and its children write to standard error.

Results, such as the table of an evaluation, go to standard output instead.
"""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

LOGGER = logging.getLogger("plaudit")
# Where DeepSpeed is installed, transformers imports it, and on machines without a GPU it warns on standard output.
logging.getLogger("DeepSpeed").addFilter(lambda record: "Setting accelerator to CPU" not in record.getMessage())
LIBRARIES = ("accelerate", "datasets", "deepspeed", "huggingface_hub", "peft", "tokenizers", "torch", "transformers")


_ESCAPES = {
    sign: repr(chr(sign))[1:-1]
    # Control characters other than line feed and tab, separators of lines, and what reverses the writing direction.
    for sign in (
        *range(9),
        *range(11, 32),
        *range(127, 160),
        0x2028,
        0x2029,
        *range(0x202A, 0x202F),
        *range(0x2066, 0x206A),
    )
}


def visible(text: str) -> str:
    """Return a text with its control characters as escapes, such as ``\\x1b``: a terminal obeys none."""
    return text if text.isprintable() else text.translate(_ESCAPES)


def new_console(stderr: bool = False) -> "Console":
    """Return a console for standard output or standard error that shows control characters of texts as escapes."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
            for segment in super().render(renderable, options):
                safe = segment.is_control or segment.text.isprintable()
                yield segment if safe else Segment(visible(segment.text), segment.style)

    return SafeConsole(stderr=stderr, highlight=False, force_jupyter=False if stderr else None)


@cache
def console() -> "Console":
    """Return the console on standard error: colors and bars on a terminal, plain lines in a pipe or a notebook."""
    return new_console(stderr=True)


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


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Hide progress bars and warnings of the libraries, unless messages for developers are shown (``--verbose``)."""
    from transformers.utils import logging as transformers_logging

    if LOGGER.isEnabledFor(logging.DEBUG):
        yield
        return
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    datasets: Any = sys.modules.get("datasets.utils")  # loaded by those alone who use it
    dataset_bars = datasets is not None and not datasets.are_progress_bars_disabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if dataset_bars:
        datasets.disable_progress_bars()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=rf"({'|'.join(LIBRARIES)})(\.|$)")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
        if dataset_bars:
            datasets.enable_progress_bars()
