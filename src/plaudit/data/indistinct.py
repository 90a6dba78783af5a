"""Responses with the same tokens but different judgements, for example after truncation: they teach nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

from plaudit.batching.trees import PromptTree
from plaudit.data.rows import LabeledRow, RankingRow, Row

IDENTICAL = 2**32 - 1
"""The common prefix of responses with the same tokens."""


def common_prefix(row: Row, tree: PromptTree) -> int:
    """Return the largest number of tokens with which two judged responses begin alike; 0 without judgements."""
    if not _judgements(row):
        return 0
    ordered = sorted(tree.responses)
    return max((_alike(first, second) for first, second in pairwise(ordered)), default=0)


def _alike(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    if first == second:
        return IDENTICAL
    return next((at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))


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
