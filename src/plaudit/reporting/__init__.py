"""The report of a run: one self-contained HTML page, and the same comparison in the terminal."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.reporting.page import write_report
    from plaudit.reporting.reading import Run, read_run
    from plaudit.reporting.terminal import comparison_table

__all__ = ["Run", "comparison_table", "read_run", "write_report"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"page": ["write_report"], "reading": ["Run", "read_run"], "terminal": ["comparison_table"]},
)
