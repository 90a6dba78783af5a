"""Graceful interruption: Ctrl-C and SIGTERM set a flag that the training loop checks between steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """A context in which the first SIGINT or SIGTERM only sets ``requested``.

    A second Ctrl-C raises ``KeyboardInterrupt`` immediately; a second SIGTERM has no effect. The previous handlers are
    restored at the end. Python delivers signals only to the main thread: in other threads the context has no effect.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._former: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether the run should stop at the next step boundary."""
        return self.signal_number is not None

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        self._former.clear()

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.signal_number = number
            # Not print: the signal may have interrupted a print, whose buffer cannot be entered again.
            os.write(2, b"\nStopping after this step. Ctrl-C stops at once, without a checkpoint.\n")
