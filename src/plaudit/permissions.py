"""Permissions of written files."""

import os
from pathlib import Path


def follow_umask(path: Path) -> None:
    """Give a file, or all files in a folder, the usual mode of new files, because safetensors sets 0600."""
    umask = os.umask(0)
    os.umask(umask)
    for file in (path, *path.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~umask)
