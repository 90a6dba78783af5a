"""The five kinds of row that every file format becomes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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


@dataclass(frozen=True)
class TextRow:
    """Plain text to model."""

    text: str
    origin: Origin


@dataclass(frozen=True)
class ResponseRow:
    """A prompt with the response to learn."""

    prompt: Prompt
    response: str
    origin: Origin


@dataclass(frozen=True)
class RankingRow:
    """A prompt with K >= 2 responses. ``ranks[k]`` is the rank of ``responses[k]``: 0 is best, equal ranks are ties."""

    prompt: Prompt
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    origin: Origin


@dataclass(frozen=True)
class LabelledRow:
    """A prompt with K >= 1 responses, each judged by itself: ``desirable[k]`` says how ``responses[k]`` was found."""

    prompt: Prompt
    responses: tuple[str, ...]
    desirable: tuple[bool, ...]
    origin: Origin


@dataclass(frozen=True)
class PromptRow:
    """A prompt alone. ``fields`` holds the row's other columns, for reward functions and tables."""

    prompt: Prompt
    origin: Origin
    fields: Mapping[str, Any] = field(default_factory=dict)


Row = TextRow | ResponseRow | RankingRow | LabelledRow | PromptRow
