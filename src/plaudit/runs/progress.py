"""Progress of a stage on the terminal: stage, steps, remaining time and current numbers."""

import logging
import time
from collections.abc import Callable
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from plaudit import log

logger = logging.getLogger(__name__)

SECONDS_BETWEEN_LINES = 10.0


class StageProgress:
    """A context manager that draws a bar on a terminal; otherwise it logs every ten seconds and at the last step."""

    def __init__(
        self,
        stage: str,
        total: int,
        done: int = 0,
        enabled: bool = True,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set up the display.

        Args:
            stage: name of the stage.
            total: steps of the whole stage.
            done: steps done before the stage was resumed; they do not count for the estimate of the remaining time.
            enabled: whether to show anything; false in all processes except the main one.
            console: where the bar is drawn; default: standard error.
            clock: returns seconds; replaced in tests.
        """
        self._stage, self._total, self._done, self._clock = stage, total, done, clock
        self._console = console or log.console()
        self._enabled = enabled
        draws = enabled and self._console.is_terminal and logger.isEnabledFor(logging.INFO)
        self._bar = _bar(self._console) if draws else None
        self._task: TaskID | None = None
        self._due_line = ""

    def __enter__(self) -> "StageProgress":
        self._started = self._last_line = self._clock()
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task(self._stage, total=self._total, completed=self._done, status="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._due_line:
            self._print_line()

    def update(self, step: int, status: str) -> None:
        """Show that ``step`` steps are done, with the current numbers, such as ``loss 2.31``."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step, status=status)
        elif self._enabled:
            self._due_line = f"{self._stage} {step}/{self._total}, {status}, {self._time_left(step)} left"
            if self._clock() - self._last_line >= SECONDS_BETWEEN_LINES:
                self._print_line()

    def _print_line(self) -> None:
        logger.info(self._due_line)
        self._due_line, self._last_line = "", self._clock()

    def _time_left(self, step: int) -> timedelta:
        seconds_per_step = (self._clock() - self._started) / max(step - self._done, 1)
        return timedelta(seconds=round(seconds_per_step * (self._total - step)))


def _bar(console: Console) -> RichProgress:
    return RichProgress(
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[status]}"),
        console=console,
    )
