"""What a generation engine returns and a reward source scores: prompts, settings in, samples out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from plaudit.data.rows import PromptRow
from plaudit.data.tokenization import TokenizedRow


@dataclass(frozen=True)
class Sample:
    """A response to a prompt, as tokens and as text.

    ``response_ids`` ends with the EOS token if and only if ``ended`` is true and the end was not a stop string.
    ``log_probabilities`` are those of the sampled tokens under the sampling temperature, over the whole vocabulary;
    ``log_shares`` the logarithm of the share of the vocabulary's probability that each was sampled among (zero without
    top_k, top_p and forbidden tokens). Both are empty for responses that were not generated. ``prompt_text`` and
    ``response_text`` hold no special tokens.

    ``learned`` holds a flag for each token of the response; None means that all are learned. Tokens that the model did
    not choose, such as a tool's result or a user's turn, are False: the model reads them, and nothing is learned from
    them. Both kinds of log-probabilities are then those of the learned tokens alone.
    """

    prompt_ids: tuple[int, ...]
    response_ids: tuple[int, ...]
    prompt_text: str
    response_text: str
    ended: bool
    log_probabilities: tuple[float, ...] = ()
    log_shares: tuple[float, ...] = ()
    fields: Mapping[str, Any] = field(default_factory=dict)
    learned: tuple[bool, ...] | None = None

    @property
    def length(self) -> int:
        """Number of learned tokens of the response."""
        return len(self.response_ids) if self.learned is None else sum(self.learned)


def learned_flags(samples: Sequence[Sample]) -> tuple[tuple[bool, ...], ...] | None:
    """Return the flags of several responses as a prompt tree takes them: None where all tokens are learned."""
    if all(sample.learned is None for sample in samples):
        return None
    return tuple(sample.learned or (True,) * len(sample.response_ids) for sample in samples)


@dataclass(frozen=True)
class Request:
    """A prompt to answer. ``seed`` alone decides the random draws, whatever else is generated at the same time."""

    prompt_ids: tuple[int, ...]
    prompt_text: str
    seed: int
    fields: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, prompt: TokenizedRow[PromptRow], seed: int) -> "Request":
        """Ask for an answer to a prompt; its row's other columns become the request's ``fields``."""
        return cls(prompt.tree.prompt, prompt.prompt_text, seed, prompt.row.fields)
