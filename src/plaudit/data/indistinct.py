"""Responses with the same tokens but different judgements, for example after truncation: they teach nothing."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from plaudit.batching.trees import PromptTree
from plaudit.data.rows import LabeledRow, RankingRow, Row

IDENTICAL = 2**32 - 1
"""The length of the common beginning of responses with the same tokens."""


def critical_lengths(row: Row, tree: PromptTree) -> tuple[int, int]:
    """Return the longest length of the responses at which some are indistinct, and that at which nothing is left.

    Responses that are cut to such a length, or further, have the same tokens. A length is 0 if there is none,
    ``IDENTICAL`` if the responses need not be cut.
    """
    if not _judgements(row):
        return 0, 0
    # As sorted, responses that begin alike are next to each other.
    lengths = sorted({_alike(first, second) for first, second in pairwise(sorted(tree.responses))} - {0})

    def longest(found: Callable[[PromptTree], bool]) -> int:
        """Return the longest of the lengths at which something is found, as it is at all shorter ones."""
        number = bisect_left(lengths, True, key=lambda length: not found(_cut(tree, length)))
        return lengths[number - 1] if number else 0

    return longest(lambda cut: bool(indistinct_responses(row, cut))), longest(lambda cut: _nothing_left(row, cut))


def _alike(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Return with how many tokens two responses begin alike."""
    if first == second:
        return IDENTICAL
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))


def _cut(tree: PromptTree, length: int) -> PromptTree:
    return PromptTree(tree.prompt, tuple(response[:length] for response in tree.responses))


def _nothing_left(row: Row, tree: PromptTree) -> bool:
    """Return whether a row has nothing to compare or learn without its indistinct responses, or only one text."""
    left = without_responses(row, tree, indistinct_responses(row, tree))
    return left is None or (len(left[1].responses) > 1 and len(set(left[1].responses)) == 1)


def _judgements(row: Row) -> Sequence[Any]:
    if isinstance(row, RankingRow):
        return row.ranks
    return row.desirable if isinstance(row, LabeledRow) else ()


def indistinct_responses(row: Row, tree: PromptTree) -> set[int]:
    """Return the responses that have the same tokens as another one with a different rank or label."""
    judgements = _judgements(row)
    if not judgements or len(set(tree.responses)) == len(tree.responses):
        return set()
    same: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for number, response in enumerate(tree.responses):
        same[response].append(number)
    groups = (numbers for numbers in same.values() if len({judgements[number] for number in numbers}) > 1)
    return {number for numbers in groups for number in numbers}


def without_responses(row: Row, tree: PromptTree, left_out: set[int]) -> tuple[Row, PromptTree] | None:
    """Return a judged row and its tree without some responses; None if nothing can be compared or learned then."""
    numbers = [number for number in range(len(tree.responses)) if number not in left_out]
    responses = tuple(row.responses[number] for number in numbers)
    new: Row | None = None
    if isinstance(row, RankingRow):
        levels = sorted({row.ranks[number] for number in numbers})
        ranks = tuple(levels.index(row.ranks[number]) for number in numbers)
        new = replace(row, responses=responses, ranks=ranks) if len(levels) > 1 else None
    elif isinstance(row, LabeledRow) and numbers:
        new = replace(row, responses=responses, desirable=tuple(row.desirable[number] for number in numbers))
    if new is None:
        return None
    learned = None if tree.learned is None else tuple(tree.learned[number] for number in numbers)
    return new, PromptTree(tree.prompt, tuple(tree.responses[number] for number in numbers), learned)
