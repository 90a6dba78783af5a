"""Parquet files, read in batches."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from plaudit.data.readers.base import DataFile, Malformed, Numbered, finite
from plaudit.data.readers.opening import named, shown, unreadable
from plaudit.errors import PlauditError

_BATCH_ROWS = 2048


def read(file: DataFile) -> Iterator[Numbered]:
    """Yield the rows with their number."""
    import pyarrow  # type: ignore[import-untyped]
    import pyarrow.parquet  # type: ignore[import-untyped]

    number = 0
    with _seekable(file) as source:
        try:
            table = pyarrow.parquet.ParquetFile(source, page_checksum_verification=True)
            _check_names(table.schema_arrow, shown(file.path))
            size = file.path.stat().st_size
            for batch in table.iter_batches(batch_size=_BATCH_ROWS):
                # Only numbers can be NaN; looking for them row by row takes time.
                check = _may_be_not_finite(batch)
                for record in _records(batch):
                    number += 1
                    yield number, finite(record) if check and isinstance(record, dict) else record
                file.at(size * number // table.metadata.num_rows)
        except (pyarrow.ArrowException, OSError, ValueError) as error:  # ValueError: names that are not UTF-8
            raise PlauditError(
                f"{shown(file.path)}: not a valid parquet file ({_first_line(error)}); download or write it again"
            ) from error
        expected = table.metadata.num_rows
        if number != expected:
            raise PlauditError(
                f"{shown(file.path)}: only {number} of {expected} rows could be read; download or write it again"
            )


@contextmanager
def _seekable(file: DataFile) -> Iterator[Any]:
    """Give a file that can be read at any position: a compressed one is unpacked into a temporary file."""
    with file.open_bytes() as contents:
        if contents.compression is None:
            yield str(file.path)
            return
        with tempfile.TemporaryFile() as unpacked:
            try:
                shutil.copyfileobj(contents, unpacked, 1 << 20)
            except OSError as error:
                raise unreadable(file.path, error) from error
            unpacked.seek(0)
            yield unpacked


def _check_names(schema: Any, path: str) -> None:
    """Raise PlauditError if two columns, or two fields of a structure, have one name."""
    names = [field.name for field in schema]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise PlauditError(f"{path}: two columns named {named(repeated)}; rename one")
    for field in schema:
        for struct in _structs(field.type):
            _check_names(struct, path)


def _structs(kind: Any) -> Iterator[Any]:
    import pyarrow

    if pyarrow.types.is_struct(kind):
        yield kind
    elif kind.num_fields:
        for index in range(kind.num_fields):
            yield from _structs(kind.field(index).type)


def _may_be_not_finite(batch: Any) -> bool:
    return any(_has_not_finite(column) for column in batch.columns)


def _has_not_finite(column: Any) -> bool:
    import pyarrow
    import pyarrow.compute  # type: ignore[import-untyped]

    if pyarrow.types.is_floating(column.type):
        return pyarrow.compute.all(pyarrow.compute.is_finite(column)).as_py() is False
    # Whatever is nested is looked at row by row.
    return bool(column.type.num_fields) and _holds_floats(column.type)


def _holds_floats(kind: Any) -> bool:
    import pyarrow

    return pyarrow.types.is_floating(kind) or any(
        _holds_floats(kind.field(index).type) for index in range(kind.num_fields)
    )


def _records(batch: Any) -> Iterator[dict[str, Any] | Malformed]:
    """Yield the rows of a batch; a row with a value that Python cannot hold is malformed."""
    try:
        yield from batch.to_pylist()
    except (ValueError, OverflowError):  # text that is not UTF-8, or a date far away
        for index in range(batch.num_rows):
            try:
                yield batch.slice(index, 1).to_pylist()[0]
            except (ValueError, OverflowError) as error:
                yield Malformed.at("a value that cannot be read", str(error))


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
