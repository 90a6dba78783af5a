"""Settings for all tests: one thread, no network, messages on standard error."""

import logging
import os

import pytest
from hypothesis import HealthCheck, settings

from plaudit.log import show_messages

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A slow machine is no fault.
settings.register_profile("tests", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _messages() -> None:
    """Show messages as the command line does."""
    show_messages(logging.INFO)
