"""A prompt with responses that were judged one by one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from plaudit.data.rows.base import Origin, Prompt, Row
from plaudit.data.rows.prompt import PromptRow


@dataclass(frozen=True)
class LabelledRow:
    """A prompt with K >= 1 responses; ``desirable[k]`` says how ``responses[k]`` was judged, independently."""

    kind: ClassVar[str] = "labelled"
    richness: ClassVar[int] = 2
    prompt: Prompt
    responses: tuple[str, ...]
    desirable: tuple[bool, ...]
    origin: Origin

    def judgements(self) -> tuple[str, ...]:
        """Return "desirable" or "undesirable" for each response."""
        return tuple("desirable" if label else "undesirable" for label in self.desirable)

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Serve as a prompt."""
        return PromptRow(self.prompt, self.origin, columns) if kind is PromptRow else None
