"""The records of a source with their lines alone."""

from collections.abc import Iterator
from typing import Any

from plaudit.data.readers import Malformed, Record, read_records


def numbered_records(path: str, *arguments: Any, **settings: Any) -> Iterator[tuple[int, Record | Malformed]]:
    """Yield (line, record) for a source whose rows all come from one file or data set."""
    for origin, record in read_records(path, *arguments, **settings):
        assert origin.source == path
        yield origin.line, record
