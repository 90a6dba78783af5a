"""Problems small enough to enumerate every response, so that each algorithm's optimum is known exactly."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.lab.entries import Entry
    from plaudit.lab.table import run_laboratory

__all__ = ["Entry", "run_laboratory"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"entries": ["Entry"], "table": ["run_laboratory"]},
)
