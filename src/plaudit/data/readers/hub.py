"""Datasets of the Hugging Face hub, by name."""

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Dataset:
    """A dataset of the hub, or a part of it.

    Args:
        name: its name.
        subset, split: of these names.
        files: file or pattern in its repository.
        revision: a commit, branch or tag; None means the newest commit.
        streaming: whether rows are read over the network one by one, instead of downloading the dataset first.
    """

    name: str
    subset: str | None = None
    split: str = "train"
    files: str | None = None
    revision: str | None = None
    streaming: bool = False


def commit(name: str, revision: str | None) -> str:
    """Return the commit that a revision (None: the newest) is now. Raises PlauditError if the hub has none."""
    import huggingface_hub

    check(name)
    try:
        return str(huggingface_hub.HfApi().dataset_info(name, revision=revision).sha)
    except Exception as error:  # of the hub or of the network
        raise PlauditError(
            f"{name}: the commit of {revision or 'the newest revision'} cannot be found ({_first_line(error)}); check "
            "the network, or set revision"
        ) from error


def fingerprint(dataset: Dataset) -> str:
    """Return a text that changes with the content of a dataset. Raises PlauditError if it cannot be loaded."""
    return str(_loaded(dataset)._fingerprint)


def read(dataset: Dataset) -> Iterator[Numbered]:
    """Yield the rows of a dataset with their number."""
    loaded, number = _loaded(dataset), 0
    try:
        for number, record in enumerate(loaded, start=1):
            yield number, finite(record)
    except PlauditError:
        raise
    except Exception as error:  # datasets raises many types of exceptions; the message must name the row
        if is_out_of_memory(error):
            raise
        raise _failure(dataset, f"row {number + 1} could not be read", error) from error
    expected = _number_of_rows(loaded, dataset)
    if expected is not None and number != expected:
        raise PlauditError(f"{dataset.name}: only {number} of {expected} rows could be read; load the dataset again")


def _number_of_rows(loaded: Any, dataset: Dataset) -> int | None:
    """Return how many rows there should be; a stream may not know it."""
    if not dataset.streaming:
        return len(loaded)
    split = (loaded.info.splits or {}).get(dataset.split)
    return None if split is None or dataset.files is not None else split.num_examples or None


def _loaded(dataset: Dataset) -> Any:
    import datasets

    check(dataset.name)
    settings: dict[str, Any] = {"data_files": dataset.files, "split": dataset.split}
    if dataset.revision is not None:
        settings["revision"] = dataset.revision
    if dataset.streaming:
        settings["streaming"] = True
    try:
        return datasets.load_dataset(dataset.name, dataset.subset, **settings)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        what = "no file has this name, and loading it as a hub dataset failed"
        raise _failure(dataset, what, error) from error


def _failure(dataset: Dataset, what: str, error: Exception) -> PlauditError:
    revision = "" if dataset.revision is None else f", revision {dataset.revision}"
    return PlauditError(
        f"{dataset.name}: {what} (subset {dataset.subset}, split {dataset.split}, files {dataset.files}{revision}): "
        f"{_first_line(error)}; check the name, these settings and the network"
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
