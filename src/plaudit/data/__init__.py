"""Reads files and hub datasets into a few kinds of rows and tokenizes them."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.data.formats.registry import FORMATS
    from plaudit.data.loading import LoadedRows, load_rows
    from plaudit.data.rows.registry import ROW_KINDS
    from plaudit.data.tokenization import tokenize_rows

__all__ = ["FORMATS", "ROW_KINDS", "LoadedRows", "load_rows", "tokenize_rows"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "formats.registry": ["FORMATS"],
        "loading": ["LoadedRows", "load_rows"],
        "rows.registry": ["ROW_KINDS"],
        "tokenization": ["tokenize_rows"],
    },
)
