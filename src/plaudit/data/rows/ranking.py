"""A prompt with ranked responses; a pair is a ranking of two."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from plaudit.data.rows.base import Origin, Prompt, Row
from plaudit.data.rows.labeled import LabeledRow
from plaudit.data.rows.prompt import PromptRow
from plaudit.data.rows.response import ResponseRow

Ranks = tuple[int, ...]
"""The rank of each of a prompt's responses: 0 is best, equal ranks are ties."""


@dataclass(frozen=True)
class RankingRow:
    """A prompt with K >= 2 responses. ``ranks[k]`` is the rank of ``responses[k]``: 0 is best, equal ranks are ties."""

    kind: ClassVar[str] = "ranking"
    richness: ClassVar[int] = 3
    prompt: Prompt
    responses: tuple[str, ...]
    ranks: Ranks
    origin: Origin

    def judgements(self) -> tuple[str, ...]:
        """Return the rank of each response."""
        return tuple(f"rank {rank}" for rank in self.ranks)

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        """Convert to labels, to the best response, or to a prompt."""
        if kind is LabeledRow:
            return self._labeled()
        if kind is ResponseRow:
            return ResponseRow(self.prompt, self.responses[self.ranks.index(0)], self.origin)
        return PromptRow(self.prompt, self.origin, columns) if kind is PromptRow else None

    def _labeled(self) -> LabeledRow:
        """Label responses by their number of better and worse alternatives.

        A response with more worse than better alternatives is desirable, one with fewer is undesirable, and one with
        equal numbers is left out.
        """
        balance = [sum((other > rank) - (other < rank) for other in self.ranks) for rank in self.ranks]
        judged = [(response, wins > 0) for response, wins in zip(self.responses, balance, strict=True) if wins]
        responses, desirable = zip(*judged, strict=True)
        return LabeledRow(self.prompt, responses, desirable, self.origin)
