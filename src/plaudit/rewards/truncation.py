"""How many texts a classifier has read, and how many of them it truncated."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from plaudit.parallel.processes import Processes


@dataclass(frozen=True)
class TextCounts:
    """The number of texts that were read, and of those that were truncated because they were too long."""

    texts: int = 0
    truncated: int = 0

    def with_text(self, is_truncated: bool) -> "TextCounts":
        """Return the counts after one more text."""
        return TextCounts(self.texts + 1, self.truncated + is_truncated)


@runtime_checkable
class CountsTexts(Protocol):
    """A reward source that may truncate texts."""

    def take_counts(self) -> TextCounts:
        """Return the counts of texts since the last call."""
        ...


def merged_counts(own: TextCounts, processes: Processes) -> TextCounts:
    """Return the counts of all processes together; all call this."""
    rows = processes.gather_numbers([own.texts, own.truncated])
    return TextCounts(*(int(sum(column)) for column in zip(*rows, strict=True)))
