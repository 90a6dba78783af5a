"""The run in one process with which the strategies' runs are compared."""

from pathlib import Path

import pytest

from distributed_runs import uneven_recipe
from plaudit.config.load import load_recipe
from plaudit.runner import run


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(load_recipe(str(uneven_recipe(tmp_path_factory.mktemp("alone")))))
