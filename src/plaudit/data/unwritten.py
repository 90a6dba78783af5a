"""What a tokenizer cannot write: unknown tokens, dropped characters, and single bytes in place of characters."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any

import numpy as np
from tokenizers.pre_tokenizers import ByteLevel

from plaudit.data.rows import Row
from plaudit.data.tokenized_row import TokenizedRow

_BYTE_TOKENS = [f"<0x{number:02X}>" for number in range(256)]
_LINE_BYTES = ("<0x09>", "<0x0A>", "<0x0D>")
"""Tabs and line breaks are bytes in many vocabularies."""


@dataclass(frozen=True)
class Unwritten:
    """Numbers of tokens, of unknown tokens, and of single bytes, which spell their text exactly.

    ``characters`` counts those of the texts without white space, and ``dropped`` those that no token gives back.
    """

    tokens: int = 0
    unknown: int = 0
    single_bytes: int = 0
    characters: int = 0
    dropped: int = 0

    def __add__(self, other: "Unwritten") -> "Unwritten":
        return Unwritten(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

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


class WrittenCounter:
    """Counts the tokens of rows, and the characters of their texts, in ``total``."""

    def __init__(self, tokenizer: Any, total: Unwritten) -> None:
        self.total = total
        vocabulary = tokenizer.get_vocab()
        single = [vocabulary[name] for name in _BYTE_TOKENS if name in vocabulary and name not in _LINE_BYTES]
        self._unknown, self._single = list(_unknown(tokenizer, vocabulary)), single
        self._tokenizer, self._drops = tokenizer, _may_drop(tokenizer, vocabulary)
        self._is_dropped: dict[str, bool] = {}

    def add(self, rows: Sequence[TokenizedRow[Any]]) -> None:
        """Count rows."""
        texts = (text for row in rows for text in (row.tree.prompt, *row.tree.responses))
        tokens = np.fromiter(chain.from_iterable(texts), np.int64)
        characters: Counter[str] = Counter()
        for text in (text for row in rows for text in _texts(row.row)) if self._drops else ():
            characters.update("".join(text.split()))
        self._find_dropped(characters.keys() - self._is_dropped.keys())
        self.total = Unwritten(
            self.total.tokens + len(tokens),
            self.total.unknown + int(np.isin(tokens, self._unknown).sum()),
            self.total.single_bytes + int(np.isin(tokens, self._single).sum()),
            self.total.characters + characters.total(),
            self.total.dropped + sum(n for character, n in characters.items() if self._is_dropped[character]),
        )

    def _find_dropped(self, characters: Collection[str]) -> None:
        """Note of which characters nothing is left after tokenizing and decoding."""
        ordered = sorted(characters)
        if not ordered:
            return
        all_ids = self._tokenizer(ordered, add_special_tokens=False)["input_ids"]
        for character, ids in zip(ordered, all_ids, strict=True):
            self._is_dropped[character] = not self._tokenizer.decode(ids).strip()


def unwritten(rows: Sequence[TokenizedRow[Any]], tokenizer: Any) -> Unwritten:
    """Count the tokens of prompts and responses, and the characters of their texts."""
    counter = WrittenCounter(tokenizer, Unwritten())
    counter.add(rows)
    return counter.total


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


def _may_drop(tokenizer: Any, vocabulary: Mapping[str, int]) -> bool:
    """Return whether a tokenizer may leave out characters that it does not know: BPE without a token for every byte.

    Other models fail there, unless they have an unknown token.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return True
    if type(backend.model).__name__ != "BPE":
        return False
    if backend.model.byte_fallback:
        return not vocabulary.keys() >= set(_BYTE_TOKENS)
    return "ByteLevel" not in str(backend.pre_tokenizer) or not vocabulary.keys() >= set(ByteLevel.alphabet())
