"""Whether a folder is that of a run: Plaudit writes into no other folder that holds something."""

from pathlib import Path

from plaudit.data.readers.opening import check_file
from plaudit.errors import PlauditError

CONFIGURATION = "config.yaml"
HEADER = "# The resolved configuration of a run of plaudit.\n"


def refuse_foreign_folder(folder: Path) -> None:
    """Raise PlauditError if a run cannot be in this folder, because something else is there or it is inside a run."""
    for above in folder.resolve().parents:
        if is_configuration(above / CONFIGURATION):
            raise PlauditError(f"{folder}: inside of another run, {above}; choose another `output`")
    if not folder.exists():
        return
    if not folder.is_dir():
        raise PlauditError(f"{folder}: this is a file; choose another `name` or `output`")
    for path in folder.rglob("*"):
        if not path.is_dir():
            check_file(path)  # opening a pipe would wait forever
    if not is_configuration(folder / CONFIGURATION) and any(path.name[0] != "." for path in folder.iterdir()):
        raise PlauditError(f"{folder}: not empty and not a Plaudit run; choose another `name` or `output`")


def is_configuration(file: Path) -> bool:
    """Whether a file is the configuration of a run."""
    return file.is_file() and file.read_bytes().startswith(HEADER.encode())
