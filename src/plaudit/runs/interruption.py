"""Stopping in good order: Ctrl-C and SIGTERM become a flag that the training loop looks at between steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interruption:
    """While this context is active, the first SIGINT or SIGTERM sets ``requested`` and does nothing else.

    A further Ctrl-C raises ``KeyboardInterrupt`` at once; a further SIGTERM changes nothing. The former handlers come
    back at the end. Python delivers signals to the main thread alone: in another thread the context has no effect.
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
            # Straight to the terminal: a buffered print may be under way where the signal struck.
            os.write(2, b"\nStopping after this step, with a checkpoint. Ctrl-C stops at once, without one.\n")
