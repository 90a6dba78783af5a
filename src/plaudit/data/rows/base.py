"""What every kind of row offers: the only facts that reading, splitting, tokenising and inspecting rely on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol


@dataclass(frozen=True)
class Message:
    """One turn of a dialogue; ``role`` is system, user or assistant."""

    role: str
    content: str


Prompt = str | tuple[Message, ...]
"""Plain text, or the turns of a dialogue up to the reply that is wanted."""


@dataclass(frozen=True)
class Origin:
    """Where a row came from: file (or hub dataset) and line, counted from 1."""

    source: str
    line: int


class Row(Protocol):
    """A prompt with K responses, or plain text, and what the file says of them.

    Each kind is a frozen dataclass that satisfies this protocol, in one file, and one line of ``registry.ROW_KINDS``.
    Rows are compared, repeated and held out by the values of their dataclass fields except ``origin``.
    """

    kind: ClassVar[str]
    """Name of the kind, in configurations and messages."""
    richness: ClassVar[int]
    """Where a file fits several formats, that whose own kind is the richest is taken; 0 is never preferred."""

    @property
    def origin(self) -> Origin:
        """Where the row came from."""
        ...

    @property
    def prompt(self) -> Prompt | None:
        """Return the prompt; None for plain text, whose first token takes its place."""
        ...

    @property
    def responses(self) -> tuple[str, ...]:
        """Return the K responses; for plain text, the text."""
        ...

    def judgements(self) -> tuple[str, ...]:
        """Return what the row says of each response, for people to read; empty where it says nothing."""
        ...

    def as_kind(self, kind: "type[Row]", columns: Mapping[str, Any]) -> "Row | None":
        """Return a simpler row of another kind, or None where this row cannot serve as one.

        ``columns`` holds the columns of the file that the row's format does not read.
        """
        ...
