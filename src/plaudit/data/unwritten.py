"""What a tokenizer cannot write: unknown tokens, dropped characters, and single bytes in place of characters."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from plaudit.data.rows import Row
from plaudit.data.tokenization import TokenizedRow

_LINE_BYTES = ("<0x09>", "<0x0A>", "<0x0D>")
"""Tabs and line breaks are bytes in many vocabularies."""


@dataclass(frozen=True)
class Unwritten:
    """Numbers of tokens, of unknown tokens, and of single bytes, which spell their text exactly.

    ``characters`` counts those of the texts without white space, and ``dropped`` those that no token gives back.
    """

    tokens: int
    unknown: int
    single_bytes: int
    characters: int = 0
    dropped: int = 0

    @property
    def unknown_fraction(self) -> float:
        """Fraction of the tokens that are unknown."""
        return self.unknown / max(self.tokens, 1)

    @property
    def byte_fraction(self) -> float:
        """Fraction of the tokens that are single bytes."""
        return self.single_bytes / max(self.tokens, 1)

    @property
    def dropped_fraction(self) -> float:
        """Fraction of the characters that are dropped."""
        return self.dropped / max(self.characters, 1)

    def refusal(self, source: str, max_unknown_fraction: float) -> str | None:
        """Return why a stage would not train on texts that the tokenizer cannot write; None if it would."""
        cannot = f"{source}: the tokenizer cannot write"
        remedy = f"more than max_unknown_fraction={max_unknown_fraction:g}; choose a model for this text, or raise it"
        if self.unknown_fraction > max_unknown_fraction:
            return f"{cannot} {self.unknown_fraction:.1%} of the tokens, {remedy}"
        if self.dropped_fraction > max_unknown_fraction:
            return f"{cannot} {self.dropped_fraction:.1%} of the characters and drops them, {remedy}"
        return None


def unwritten(rows: Sequence[TokenizedRow[Any]], tokenizer: Any) -> Unwritten:
    """Count the tokens of prompts and responses, and the characters of their texts."""
    tokens: Counter[int] = Counter()
    characters: set[str] = set()
    for row in rows:
        tokens.update(chain(row.tree.prompt, *row.tree.responses))
        for text in _texts(row.row):
            characters.update(text)
    lost = _dropped({character for character in characters if not character.isspace()}, tokenizer)
    counted: Counter[str] = Counter()
    for text in (text for row in rows for text in _texts(row.row)) if lost else ():
        counted.update("".join(text.split()))
    vocabulary = tokenizer.get_vocab()
    names = (f"<0x{number:02X}>" for number in range(256))
    single = {vocabulary[name] for name in names if name in vocabulary and name not in _LINE_BYTES}
    return Unwritten(
        tokens.total(),
        sum(tokens[token] for token in _unknown(tokenizer, vocabulary)),
        sum(tokens[token] for token in single),
        counted.total(),
        sum(counted[character] for character in lost),
    )


def _texts(row: Row) -> Iterator[str]:
    if isinstance(row.prompt, tuple):
        yield from (message.content for message in row.prompt)
    elif row.prompt is not None:
        yield row.prompt
    yield from row.responses


def _unknown(tokenizer: Any, vocabulary: dict[str, int]) -> set[int]:
    """Return the ids of unknown tokens. One with another use, such as GPT-2's, is never written for a text."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    found = {tokenizer.unk_token_id, vocabulary.get(getattr(model, "unk_token", None) or "")}
    return found - {None, tokenizer.eos_token_id, tokenizer.bos_token_id}


def _dropped(characters: set[str], tokenizer: Any) -> list[str]:
    """Return the characters of which nothing is left after tokenizing and decoding."""
    model = getattr(getattr(tokenizer, "backend_tokenizer", None), "model", None)
    if not characters or (model is not None and type(model).__name__ != "BPE"):
        return []  # Other models fail at what they do not know, unless they have an unknown token.
    ordered = sorted(characters)
    all_ids = tokenizer(ordered, add_special_tokens=False)["input_ids"]
    return [character for character, ids in zip(ordered, all_ids, strict=True) if not tokenizer.decode(ids).strip()]
