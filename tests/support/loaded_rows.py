"""Loads rows with a cache that is deleted at once: what is mapped into memory stays readable."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from plaudit.config.schema import DataConfig
from plaudit.data import loading
from plaudit.data.loading import LoadedRows
from plaudit.data.store.cache import DataCache


def load_rows(config: DataConfig, kind: Any, rejects: Path | None = None, seed: int = 0) -> LoadedRows[Any]:
    """Return the rows of a data section."""
    with TemporaryDirectory() as folder:
        return loading.load_rows(config, kind, rejects, seed, DataCache(Path(folder)))
