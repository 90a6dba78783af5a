"""Requests to a generation engine, and the samples that it returns, whole or in pieces; reward sources score them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.data.rows import Origin, PromptRow
from plaudit.data.tokenized_row import TokenizedRow


@dataclass(frozen=True)
class Sample:
    """A response to a prompt, as tokens and as text.

    ``response_ids`` ends with the EOS token if and only if ``ended`` is true and the end was not a stop string.
    ``log_probabilities`` are those of the sampled tokens in the distribution that they were drawn from: at the sampling
    temperature, and among the tokens that top_k, top_p and min_new_tokens leave. They are empty for responses that were
    not generated. ``prompt_text`` and ``response_text`` contain no special tokens.

    ``learned`` holds a flag for each token of the response; None means that all are learned. It is False for tokens
    that the model did not choose, such as a tool's result or a user's turn: the model reads them but does not learn
    them. ``log_probabilities`` then cover only the learned tokens.

    ``origin`` is that of the prompt's row, if it came from a file.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    prompt_text: str
    response_text: str
    ended: bool
    log_probabilities: tuple[float, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    learned: tuple[bool, ...] | None = None
    origin: Origin | None = None

    @property
    def length(self) -> int:
        """Number of learned tokens of the response."""
        return len(self.response_ids) if self.learned is None else sum(self.learned)


def learned_flags(samples: Sequence[Sample]) -> tuple[tuple[bool, ...], ...] | None:
    """Return the flags of several responses in the form of ``PromptTree.learned``: None if all tokens are learned."""
    if all(sample.learned is None for sample in samples):
        return None
    return tuple(sample.learned or (True,) * len(sample.response_ids) for sample in samples)


@dataclass(frozen=True)
class Piece:
    """The part of the response to request number ``index`` that is new since its last piece.

    The ``token_ids`` of a request's pieces together are the sample's ``response_ids``, their ``text`` is its
    ``response_text``. The last piece, and no other, holds the finished ``sample``.
    """

    index: int
    token_ids: tuple[int, ...]
    text: str
    sample: Sample | None = None


@dataclass(frozen=True)
class Request:
    """A prompt to answer. The random draws depend only on ``seed``, not on other requests in the batch."""

    prompt_ids: tuple[int, ...]
    prompt_text: str
    seed: int
    fields: Mapping[str, Any] = field(default_factory=dict)
    origin: Origin | None = None

    @classmethod
    def of(cls, prompt: TokenizedRow[PromptRow], seed: int) -> "Request":
        """Return a request for a prompt; the other columns of its row become ``fields``."""
        return cls(prompt.tree.prompt, prompt.prompt_text, seed, prompt.row.fields, prompt.row.origin)
