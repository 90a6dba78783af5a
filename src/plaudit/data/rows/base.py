"""The interface of rows, on which reading, splitting, tokenizing and inspecting rely."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol

from plaudit.data.rows.messages import Message

Prompt = str | tuple[Message, ...]
"""Plain text, or the turns of a dialogue before the wanted reply."""


@dataclass(frozen=True)
class Origin:
    """The origin of a row: file or hub dataset, and line, counted from 1."""

    source: str
    line: int

    def within(self, source: str) -> str:
        """Return the place in a source: the line, and the file if it is one of several."""
        return f"line {self.line}" if self.source == source else f"{self.source} line {self.line}"


class Row(Protocol):
    """A prompt with K responses, or plain text, and its judgements from the file.

    Each kind is a frozen dataclass that satisfies this protocol, with a file and an entry in ``registry.ROW_KINDS``.
    Rows are compared, repeated and held out by the values of their dataclass fields except ``origin``.
    """

    kind: ClassVar[str]
    """Name of the kind, in configurations and messages."""
    richness: ClassVar[int]
    """If a file fits several formats, the one whose native kind is richest is used; 0 is never preferred."""

    @property
    def origin(self) -> Origin:
        """The origin of the row."""
        ...

    @property
    def prompt(self) -> Prompt | None:
        """Return the prompt; None for plain text, whose first token is used as the prompt."""
        ...

    @property
    def responses(self) -> tuple[str, ...]:
        """Return the K responses; for plain text, the text."""
        ...

    def judgements(self) -> tuple[str, ...]:
        """Return the judgement of each response as readable text; empty without judgements."""
        ...

    def as_kind(self, kind: "type[Row]", columns: Mapping[str, Any]) -> "Row | None":
        """Convert to a simpler kind of row; None if that is not possible.

        ``columns`` holds the columns of the file that the row's format does not use.
        """
        ...


PromptKind = Literal["text", "plain", "dialogue"]
"""What a row's prompt is: none (plain text), plain text, or the turns of a dialogue."""


def prompt_kind(row: Row) -> PromptKind:
    """Return what a row's prompt is."""
    return "text" if row.prompt is None else "plain" if isinstance(row.prompt, str) else "dialogue"
