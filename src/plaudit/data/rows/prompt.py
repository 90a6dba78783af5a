"""A prompt without responses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from plaudit.data.rows.base import Origin, Prompt, Row


@dataclass(frozen=True)
class PromptRow:
    """A prompt without responses. ``fields`` holds the row's other columns, for reward functions and tables."""

    kind: ClassVar[str] = "prompt"
    richness: ClassVar[int] = 0
    prompt: Prompt
    origin: Origin
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def responses(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def judgements(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Return None: a prompt cannot be converted."""
        return None
