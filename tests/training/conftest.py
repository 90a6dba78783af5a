"""Runs that several modules of this folder start from; each is created once."""

from pathlib import Path

import pytest

from plaudit.config.load import load_recipe
from plaudit.runner import run
from tiny_runs import tiny_recipe


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``recipe.yaml`` in which all stages before RL are finished."""
    folder = tmp_path_factory.mktemp("collection")
    run(load_recipe(str(tiny_recipe(folder))), ["pretrain", "sft", "reward"])
    return folder
