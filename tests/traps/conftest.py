"""The folder that all traps start from; it is created once."""

from pathlib import Path

import pytest

from trap_world import prepared


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with everything that a stage starts from."""
    return prepared(tmp_path_factory.mktemp("traps"))
