"""A prompt with its responses: the one structure that everything trains on or scores."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from plaudit.errors import PlauditError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class PromptTree:
    """A prompt and the responses that branch off it, as token ids.

    ``prompt`` holds at least one token (the state before the first response token must exist) and every response at
    least one. ``fields`` carries whatever belongs to the row: ranks, old log-probabilities, an index.
    """

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    fields: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.prompt:
            raise PlauditError("a prompt has no tokens; use a tokenizer with a BOS token, or give the prompt some text")
        if not all(self.responses):
            raise PlauditError(
                "a response has no tokens; use a tokenizer with an EOS token, or give the response some text"
            )

    @property
    def positions(self) -> int:
        """Number of token positions when the prompt is stored once."""
        return len(self.prompt) + sum(len(response) for response in self.responses)

    @property
    def response_tokens(self) -> int:
        """Number of tokens in all responses."""
        return sum(len(response) for response in self.responses)


@dataclass(frozen=True)
class Example(Generic[T_co]):
    """A prompt tree, and what is to be learned about its responses: their ranks, their place in a table, or None."""

    tree: PromptTree
    target: T_co
