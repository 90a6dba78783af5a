"""Distribution: the processes of a run, and how they train one model together."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.parallel.processes import Processes, start_processes
    from plaudit.parallel.registry import STRATEGIES
    from plaudit.parallel.strategy import Strategy, build_strategy

__all__ = ["STRATEGIES", "Processes", "Strategy", "build_strategy", "start_processes"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "processes": ["Processes", "start_processes"],
        "registry": ["STRATEGIES"],
        "strategy": ["Strategy", "build_strategy"],
    },
)
