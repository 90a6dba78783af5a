"""Training as a generator: it yields each line of metrics and returns the closing numbers."""

from collections.abc import Generator
from typing import Any, TypeVar

from plaudit.log import quiet_libraries

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


def quiet(lines: Lines[Result]) -> Lines[Result]:
    """Yield the lines; between two of them, the libraries print nothing."""
    try:
        while True:
            with quiet_libraries():
                try:
                    line = next(lines)
                except StopIteration as end:
                    result: Result = end.value
                    return result
            yield line
    finally:
        with quiet_libraries():
            lines.close()
