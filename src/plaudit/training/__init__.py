"""The training loop that all stages share, and the tasks that it trains."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.training.loop import Trainer
    from plaudit.training.task import Task

__all__ = ["Task", "Trainer"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"loop": ["Trainer"], "task": ["Task"]},
)
