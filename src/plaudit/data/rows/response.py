"""A prompt with the response to learn."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from plaudit.data.rows.base import Origin, Prompt, Row
from plaudit.data.rows.messages import Message
from plaudit.data.rows.prompt import PromptRow


@dataclass(frozen=True)
class ResponseRow:
    """A prompt with the response to learn.

    ``final`` is the response as a turn if it is more than its text: if it calls functions. ``response`` is then the
    turn's text with the calls as JSON. Turns of the assistant in the prompt are learned as well if they are marked so.
    ``parts``, if there are any, are the response in pieces, each with whether it is learned.
    """

    kind: ClassVar[str] = "response"
    richness: ClassVar[int] = 1
    prompt: Prompt
    response: str
    origin: Origin
    final: Message | None = None
    parts: tuple[tuple[str, bool], ...] | None = None

    @property
    def responses(self) -> tuple[str, ...]:
        """Return the response."""
        return (self.response,)

    def judgements(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Convert to a prompt."""
        return PromptRow(self.prompt, self.origin, columns) if kind is PromptRow else None
