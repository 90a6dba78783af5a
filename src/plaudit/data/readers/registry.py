"""The kinds of files that can be read, by their ending. Each may also be compressed."""

from pathlib import Path

from plaudit.data.readers.base import Reader
from plaudit.data.readers.opening import COMPRESSIONS, check_file, shown
from plaudit.errors import PlauditError
from plaudit.registry import Registry

READERS: Registry[Reader] = Registry(
    "kind of data file",
    {
        ".jsonl": "plaudit.data.readers.json_lines:read",
        ".ndjson": "plaudit.data.readers.json_lines:read",
        ".json": "plaudit.data.readers.json_documents:read",
        ".csv": "plaudit.data.readers.delimited:read_csv",
        ".tsv": "plaudit.data.readers.delimited:read_tsv",
        ".txt": "plaudit.data.readers.plain_text:read",
        ".parquet": "plaudit.data.readers.parquet:read",
    },
)


def ending_of(path: Path) -> str | None:
    """Return the ending that names the kind of a file, without that of a compression; None if it is unknown."""
    name = path.name.lower()
    for compression in COMPRESSIONS:
        name = name.removesuffix(compression)
    return next((ending for ending in READERS if name.endswith(ending)), None)


def reader_of(path: Path) -> Reader:
    """Return the reader of a file. Raises PlauditError if there is no such file or if its kind is unknown."""
    check_file(path)
    ending = ending_of(path)
    if ending is None:
        raise PlauditError(
            f"{shown(path)}: unknown kind of file; the name must end with one of {', '.join(READERS)}, "
            f"also followed by {', '.join(COMPRESSIONS)}"
        )
    return READERS[ending]
