"""Distribution: the processes of a run, and how they train one model together."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.parallel.processes import Processes, start_processes
    from plaudit.parallel.strategy import Strategy, build_strategy

__all__ = ["Processes", "Strategy", "build_strategy", "start_processes"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "processes": ["Processes", "start_processes"],
        "strategy": ["Strategy", "build_strategy"],
    },
)
