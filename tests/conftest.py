"""Settings for all tests: one thread, no network, messages on standard error."""

import logging
import os
import signal
import threading

import pytest
from hypothesis import HealthCheck, settings

from plaudit.log import show_messages

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A slow machine is no fault.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


# A shell that starts the tests in the background lets them ignore Ctrl-C.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _messages() -> None:
    """Show messages as the command line does."""
    show_messages(logging.INFO)
