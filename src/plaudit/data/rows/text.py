"""Plain text to model."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from plaudit.data.rows.base import Origin, Row


@dataclass(frozen=True)
class TextRow:
    """Plain text to model."""

    kind: ClassVar[str] = "text"
    richness: ClassVar[int] = 0
    text: str
    origin: Origin

    @property
    def prompt(self) -> None:
        """Return None."""
        return None

    @property
    def responses(self) -> tuple[str, ...]:
        """Return the text."""
        return (self.text,)

    def judgements(self) -> tuple[str, ...]:
        """Return none."""
        return ()

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Return None: plain text cannot be converted."""
        return None
