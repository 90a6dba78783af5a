"""A prompt with individually labeled responses."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from plaudit.data.rows.base import Origin, Prompt, Row
from plaudit.data.rows.prompt import PromptRow


@dataclass(frozen=True)
class LabeledRow:
    """A prompt with K >= 1 responses; ``desirable[k]`` is the label of ``responses[k]``."""

    kind: ClassVar[str] = "labeled"
    richness: ClassVar[int] = 2
    prompt: Prompt
    responses: tuple[str, ...]
    desirable: tuple[bool, ...]
    origin: Origin

    def judgements(self) -> tuple[str, ...]:
        """Return "desirable" or "undesirable" for each response."""
        return tuple("desirable" if label else "undesirable" for label in self.desirable)

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Convert to a prompt."""
        return PromptRow(self.prompt, self.origin, columns) if kind is PromptRow else None
