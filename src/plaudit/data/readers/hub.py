"""Datasets of the Hugging Face hub, by name."""

from collections.abc import Iterator
from typing import Any

from plaudit.data.readers.base import Numbered, finite
from plaudit.errors import PlauditError
from plaudit.hub import hub_options
from plaudit.memory import is_out_of_memory


def check(name: str) -> None:
    """Raise PlauditError at once if the hub has no such dataset, or cannot be reached and nothing is cached."""
    try:
        hub_options(name, "dataset")
    except PlauditError as error:
        raise PlauditError(f"{name}: {error}") from error


def fingerprint(name: str, subset: str | None, split: str, files: str | None) -> str:
    """Return a text that changes with the content of a dataset. Raises PlauditError if it cannot be loaded."""
    return str(_loaded(name, subset, split, files)._fingerprint)


def read(name: str, subset: str | None, split: str, files: str | None) -> Iterator[Numbered]:
    """Yield the rows of a dataset with their number."""
    dataset = _loaded(name, subset, split, files)
    number = 0
    try:
        for number, record in enumerate(dataset, start=1):
            yield number, finite(record)
    except PlauditError:
        raise
    except Exception as error:  # datasets raises many types of exceptions; the message must name the row
        if is_out_of_memory(error):
            raise
        what = f"row {number + 1} could not be read"
        raise _failure(name, what, (subset, split, files), error) from error
    if number != len(dataset):
        raise PlauditError(f"{name}: only {number} of {len(dataset)} rows could be read; load the dataset again")


def _loaded(name: str, subset: str | None, split: str, files: str | None) -> Any:
    import datasets

    check(name)
    try:
        return datasets.load_dataset(name, subset, data_files=files, split=split)
    except Exception as error:  # as above
        if is_out_of_memory(error):
            raise
        what = "no file has this name, and loading it as a hub dataset failed"
        raise _failure(name, what, (subset, split, files), error) from error


def _failure(name: str, what: str, settings: tuple[str | None, str, str | None], error: Exception) -> PlauditError:
    subset, split, files = settings
    return PlauditError(
        f"{name}: {what} (subset {subset}, split {split}, files {files}): {_first_line(error)}; check the name, these "
        "settings and the network"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
