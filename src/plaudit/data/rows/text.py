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
        """Plain text has no prompt."""
        return None

    @property
    def responses(self) -> tuple[str, ...]:
        """Return the text alone."""
        return (self.text,)

    def judgements(self) -> tuple[str, ...]:
        """Nothing is said of the text."""
        return ()

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Plain text serves as no other kind."""
        return None
