"""Reads the records of files and hub datasets with their line numbers, and reports where and why one is malformed.

One file per kind of file; ``registry.READERS`` names them by their ending. Every reader yields records one by one, and
checks at the end that it has read all there is, by a count that does not depend on its own parsing.
"""

from plaudit.data.readers.base import DataFile, Malformed, Meter, Numbered, Reader, Record
from plaudit.data.readers.registry import READERS
from plaudit.data.readers.sources import Placed, read_records

__all__ = ["READERS", "DataFile", "Malformed", "Meter", "Numbered", "Placed", "Reader", "Record", "read_records"]
