"""Judgements that contradict each other: the same responses to the same prompt, judged in both ways."""

import hashlib
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from plaudit.data.rows import LabeledRow, RankingRow, Row
from plaudit.data.splits import key_of


def judgement_keys(row: Row, prompt: bytes) -> Iterator[int]:
    """Yield a number below 2 ** 64 for every labeled response, or for every pair of responses with different ranks.

    The last bit says which way the judgement goes; the other bits identify prompt and responses, apart from white space
    at their ends. ``prompt`` is the key of the row's prompt.
    """
    if not isinstance(row, LabeledRow | RankingRow):
        return
    texts = [key_of(response.strip()) for response in row.responses]
    if isinstance(row, LabeledRow):
        for text, desirable in zip(texts, row.desirable, strict=True):
            yield _number(prompt + text, desirable)
        return
    for (one, rank), (other, other_rank) in combinations(zip(texts, row.ranks, strict=True), 2):
        if rank != other_rank and one != other:
            yield _number(prompt + min(one, other) + max(one, other), (one < other) == (rank < other_rank))


class Contradictions(NamedTuple):
    """How many of a number of different responses or pairs of responses are judged in both ways."""

    number: int
    judged: int

    def warning(self, kind: type[Row]) -> str | None:
        """Return a warning for rows of a kind if there are any."""
        if not self.number:
            return None
        what = "responses are labeled desirable and undesirable"
        if kind is RankingRow:
            what = "pairs of responses are ranked in both orders"
        return (
            f"{self.number} of {self.judged} different {what} for the same prompt; such judgements cancel out: check "
            "that the judgement is read right, or remove them"
        )


def contradictions(keys: NDArray[Any]) -> Contradictions:
    """Count the contradictions among judgement keys."""
    different = np.unique(keys.astype(np.uint64))
    both = int(((different[1:] ^ different[:-1]) == 1).sum())
    return Contradictions(both, len(different) - both)


def _number(content: bytes, way: bool) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little") & ~1 | way
