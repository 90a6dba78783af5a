"""What a tokenizer cannot write: unknown tokens, and single bytes in place of characters."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from plaudit.batching.trees import PromptTree

_LINE_BYTES = ("<0x09>", "<0x0A>", "<0x0D>")
"""Tabs and line breaks are bytes in many vocabularies."""


@dataclass(frozen=True)
class Unwritten:
    """Numbers of tokens, of unknown tokens, and of single bytes, which spell their text exactly."""

    tokens: int
    unknown: int
    single_bytes: int

    @property
    def unknown_fraction(self) -> float:
        """Fraction of the tokens that are unknown."""
        return self.unknown / max(self.tokens, 1)

    @property
    def byte_fraction(self) -> float:
        """Fraction of the tokens that are single bytes."""
        return self.single_bytes / max(self.tokens, 1)


def unwritten(trees: Sequence[PromptTree], tokenizer: Any) -> Unwritten:
    """Count the tokens of prompts and responses."""
    tokens: Counter[int] = Counter()
    for tree in trees:
        tokens.update(chain(tree.prompt, *tree.responses))
    unknown = tokenizer.unk_token_id
    # An unknown token with another use, such as GPT-2's, is never written for a text.
    missing = 0 if unknown in (None, tokenizer.eos_token_id, tokenizer.bos_token_id) else tokens[unknown]
    names = (f"<0x{number:02X}>" for number in range(256))
    vocabulary = tokenizer.get_vocab()
    single = {vocabulary[name] for name in names if name in vocabulary and name not in _LINE_BYTES}
    return Unwritten(tokens.total(), missing, sum(tokens[token] for token in single))
