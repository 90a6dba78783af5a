"""Checks that a disk has room before something is written to it."""

import shutil
from pathlib import Path

from plaudit.errors import PlauditError

RESERVE = 16 * 2**20
"""Bytes that must stay free besides: for metrics, samples and the file system itself."""


def check_free_space(folder: Path, needed: int, what: str) -> None:
    """Raise PlauditError, with both sizes, if less than ``needed`` bytes are free where ``folder`` is or will be."""
    existing = next(path for path in (folder, *folder.resolve().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed + RESERVE:
        raise PlauditError(
            f"{folder}: {what} of {_size(needed)}, but only {_size(free)} are free on this disk; free some space, "
            "lower keep_checkpoints, or choose another `output`; earlier checkpoints are intact, and the same command "
            "continues the run"
        )


def _size(number: int) -> str:
    return f"{number / 1e9:.1f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"
