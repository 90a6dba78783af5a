"""Stopping in good order: Ctrl-C and SIGTERM become a flag that the training loop looks at between steps."""

import os
import signal
import threading
from types import FrameType
from typing import Any


class Interrupted(Exception):  # noqa: N818 - an order carried out, no error
    """The run stopped because it was asked to, after writing a checkpoint.

    ``exit_code`` follows the shell's convention of 128 + signal: 130 after Ctrl-C (SIGINT), 143 after SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        name = signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} with a checkpoint; the same command continues")
        self.exit_code = 128 + signal_number


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

    def raise_if_requested(self) -> None:
        """Raise ``Interrupted`` if a signal has come; call it when the checkpoint is written."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

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
