"""Loading and saving models without the messages of transformers."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from plaudit.log import LOGGER


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Hide progress bars and warnings of transformers, unless messages for developers are shown (``--verbose``)."""
    from transformers.utils import logging as transformers_logging

    if LOGGER.isEnabledFor(logging.DEBUG):
        yield
        return
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
