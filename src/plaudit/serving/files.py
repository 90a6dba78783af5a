"""Reads data files from beginning to end, in batches, for commands that generate or score."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.config.sections import checked_section
from plaudit.data.formats.base import Record
from plaudit.data.readers.registry import ending_of
from plaudit.data.rows import PromptRow, Row
from plaudit.data.sources import SourceReading
from plaudit.errors import PlauditError

logger = logging.getLogger(__name__)
_MOST_BAD: float = DataConfig.model_fields["max_bad_fraction"].default
_SCANNED_AT_ONCE = 1024

R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class ScannedFile(Generic[R]):
    """A source that has been read once: its number of rows of a kind is known, and that few records are bad."""

    source: SourceConfig
    kind: type[R]
    rows: int

    def batches(self, size: int) -> Iterator[list[tuple[R, Record]]]:
        """Read it again: yield at most ``size`` rows at a time, each with the record that it came from."""
        reading = SourceReading(self.source, self.kind)
        pairs = ((row, reading.record) for row in reading)
        while batch := list(islice(pairs, size)):
            reading.new_rejects()
            yield batch


def scanned(source: SourceConfig, kind: type[R] | None = None) -> ScannedFile[R]:
    """Read a source once, in bounded memory; ``kind`` None means the native kind of its format.

    Warns of bad records. Raises PlauditError if they are too many, or if there are no rows.
    """
    reading: SourceReading[R] = SourceReading(source, kind)
    rows, first, found = iter(reading), None, 0
    while part := sum(1 for _ in islice(rows, _SCANNED_AT_ONCE)):
        found += part
        rejects = reading.new_rejects()
        first = first or (rejects[0] if rejects else None)
    rejects = reading.new_rejects()
    first, counts = first or (rejects[0] if rejects else None), reading.counts()
    if first is not None:
        said = f"{first.origin.source} line {first.origin.line}: {first.reason}"
        number = f"{counts.bad_records} of {counts.records} records are bad"
        if counts.bad_records > _MOST_BAD * counts.records:
            raise PlauditError(f"{said}; {number}, more than {_MOST_BAD:.0%}; fix them")
        logger.warning("%s; %s and left out", said, number)
    if not found:
        raise PlauditError(f"{source.path}: contains no {reading.kind.kind} rows; check the file and its format")
    return ScannedFile(source, reading.kind, found)


def source_at(path: str, **options: Any) -> SourceConfig:
    """Return the source at a path. Raises PlauditError for an option that it does not have."""
    return checked_section(SourceConfig, {"path": path, **options}, path)


def scanned_prompts(path: str, **options: Any) -> ScannedFile[PromptRow]:
    """Return the prompts in a source; in a text file, each line that is not blank is one."""
    lines = {"columns": {"text": "prompt"}} if ending_of(Path(path)) == ".txt" and Path(path).is_file() else {}
    return scanned(source_at(path, **lines, **options), PromptRow)


def refuse_existing(output: Path | None, overwrite: bool) -> None:
    """Raise PlauditError if the file to write exists and must not be replaced."""
    if output is not None and output.is_dir():
        raise PlauditError(f"{output}: a folder; name a file with --output")
    if output is not None and output.exists() and not overwrite:
        raise PlauditError(f"{output}: exists already; name another file, or replace it with --overwrite")
