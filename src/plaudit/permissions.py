"""Who may read the files that are written."""

import os
from pathlib import Path


def follow_umask(path: Path) -> None:
    """Give a file, or all files in a folder, the mode of any other new file: safetensors lets only the owner read."""
    umask = os.umask(0)
    os.umask(umask)
    for file in (path, *path.rglob("*")):
        if file.is_file():
            file.chmod(0o666 & ~umask)
