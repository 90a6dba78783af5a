"""Prompt trees: a prompt with its responses, the structure that is trained on and scored."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from plaudit.errors import PlauditError

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Segment:
    """A part of a response. Tokens with ``learned`` false, such as a user's turn or a tool's result, are only read."""

    tokens: tuple[int, ...]
    learned: bool = True


@dataclass(frozen=True)
class PromptTree:
    """A prompt and the responses that branch off it, as token ids.

    ``prompt`` has at least one token, because there must be a state before the first response token. Every response has
    at least one learned token. ``learned`` holds a flag for each token of each response; None means that all are
    learned. Tokens that are not learned are context: they have no log-probability, loss, entropy, value or advantage,
    and do not count towards a response's length.
    """

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    learned: tuple[tuple[bool, ...], ...] | None = None

    @classmethod
    def of_segments(cls, prompt: tuple[int, ...], responses: Sequence[Sequence[Segment]]) -> "PromptTree":
        """Return a tree whose responses consist of segments."""
        tokens = tuple(tuple(token for part in response for token in part.tokens) for response in responses)
        flags = tuple(tuple(part.learned for part in response for _ in part.tokens) for response in responses)
        return cls(prompt, tokens, learned=flags if not all(map(all, flags)) else None)

    def __post_init__(self) -> None:
        if not self.prompt:
            raise PlauditError("a prompt has no tokens; use a tokenizer with a BOS token, or give the prompt some text")
        if not all(self.responses):
            raise PlauditError(
                "a response has no tokens; use a tokenizer with an EOS token, or give the response some text"
            )
        if self.learned is not None:
            if [*map(len, self.learned)] != [*map(len, self.responses)]:
                raise ValueError("learned must hold one flag per token of each response")
            if not all(map(any, self.learned)):
                raise PlauditError("a response has no token to learn: at least one of its segments must be learned")

    @property
    def positions(self) -> int:
        """Number of token positions when the prompt is stored once."""
        return len(self.prompt) + sum(len(response) for response in self.responses)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Number of learned tokens of each response."""
        return tuple(map(len, self.responses)) if self.learned is None else tuple(map(sum, self.learned))

    @property
    def response_tokens(self) -> int:
        """Number of learned tokens in all responses."""
        return sum(self.lengths)

    def flags(self, number: int) -> tuple[bool, ...]:
        """Return whether each token of a response is learned."""
        return (True,) * len(self.responses[number]) if self.learned is None else self.learned[number]


@dataclass(frozen=True)
class Example(Generic[T_co]):
    """A prompt tree and its target: for example the ranks of the responses, their indices, or None."""

    tree: PromptTree
    target: T_co
