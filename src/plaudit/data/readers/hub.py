"""Datasets of the Hugging Face hub, by name."""

from collections.abc import Iterator

from plaudit.data.readers.base import Numbered, finite
from plaudit.errors import PlauditError
from plaudit.hub import hub_options
from plaudit.log import quiet_libraries


def check(name: str) -> None:
    """Raise PlauditError at once if the hub has no such dataset, or cannot be reached and nothing is cached."""
    try:
        hub_options(name, "dataset")
    except PlauditError as error:
        raise PlauditError(f"{name}: {error}") from error


def read(name: str, subset: str | None, split: str, files: str | None) -> Iterator[Numbered]:
    """Yield the rows of a dataset with their number."""
    import datasets

    check(name)
    number = 0
    try:
        with quiet_libraries():
            dataset = datasets.load_dataset(name, subset, data_files=files, split=split)
        for number, record in enumerate(dataset, start=1):
            yield number, finite(record)
    except PlauditError:
        raise
    except Exception as error:  # datasets raises many types of exceptions; the message must name the dataset
        settings = f"subset {subset}, split {split}, files {files}"
        if number:
            what = f"row {number + 1} could not be read ({settings})"
        else:
            what = f"there is no such file, and no hub dataset of this name could be loaded ({settings})"
        raise PlauditError(
            f"{name}: {what}: {_first_line(error)}; check the name, these settings and the network"
        ) from error
    expected = len(dataset) if hasattr(dataset, "__len__") else number
    if number != expected:
        raise PlauditError(f"{name}: only {number} of {expected} rows could be read; load the dataset again")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
