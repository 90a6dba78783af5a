"""Responses with the same tokens but different judgements, for example after truncation: they teach nothing."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from plaudit.batching.trees import PromptTree
from plaudit.data.rows import LabeledRow, RankingRow, Row


def indistinct_responses(row: Row, tree: PromptTree) -> set[int]:
    """Return the responses that have the same tokens as another one with a different rank or label."""
    judgements: Sequence[Any] = ()
    if isinstance(row, RankingRow):
        judgements = row.ranks
    elif isinstance(row, LabeledRow):
        judgements = row.desirable
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
