"""Training as a generator: it yields each line of metrics and returns the closing numbers."""

from collections.abc import Generator
from typing import Any, TypeVar

Line = tuple[str, dict[str, Any]]
"""The name of the stage and a line of its metrics, with ``step`` and ``seconds``."""

Result = TypeVar("Result")

Lines = Generator[Line, None, Result]
"""Lines of metrics, in the main process only. Closing it writes a checkpoint and stops all processes."""


def last(lines: Lines[Result]) -> Result:
    """Run to the end and return the result."""
    while True:
        try:
            next(lines)
        except StopIteration as end:
            result: Result = end.value
            return result
