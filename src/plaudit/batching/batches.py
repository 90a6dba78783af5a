"""The two layouts of prompt trees as tensors, and the index tables that make them look the same from outside.

Whatever the layout, the trunk returns hidden states [rows, length, hidden]; flattened to [rows x length, hidden], a
batch says which positions predict the response tokens and which hold them. Nothing behind the trunk knows the layout.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from plaudit.batching.packing import split_packed, split_padded
from plaudit.batching.trees import PromptTree

Layout = Literal["packed", "padded"]
TreeSpan = tuple[int, int, int]
"""Where a tree stands: its row, its first column, and the column behind its last."""


@dataclass(frozen=True)
class Batch:
    """Trees laid out as rows of tokens.

    With N response tokens in R responses, in the order of ``trees`` and, within a tree, of its responses:

    - ``input_ids``, ``position_ids``: [rows, length]
    - ``attention_mask``: packed: bool [rows, 1, length, length], True where row i may look at column j;
      padded: int64 [rows, length], 1 on real tokens
    - ``targets``: [N], the response tokens
    - ``predictor_index``: [N], flat position (row x length + column) of the token in front of each response token
    - ``token_index``: [N], flat position of each response token
    - ``lengths``: [R], tokens of each response
    - ``tree_indices``: index of each tree in the sequence that the batch was made from
    - ``tree_spans``: where each tree stands; empty for the padded layout
    """

    trees: tuple[PromptTree, ...]
    tree_indices: tuple[int, ...]
    input_ids: Tensor
    position_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    predictor_index: Tensor
    token_index: Tensor
    lengths: Tensor
    tree_spans: tuple[TreeSpan, ...] = ()

    @property
    def last_token_index(self) -> Tensor:
        """Flat position of the last token of each response, [R]."""
        return self.token_index[self.lengths.cumsum(0) - 1]

    @property
    def positions(self) -> int:
        """Token positions that a forward pass computes, padding included."""
        return self.input_ids.numel()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)
        }
        return replace(self, **moved)


def packed_batch(trees: Sequence[PromptTree], rows: Sequence[Sequence[int]]) -> Batch:
    """Lay trees out with the prompt stored once; ``rows`` holds the tree indices of each row.

    A token sees the tokens of its own tree that are not after it and belong to the prompt or to its own branch.
    Padding sees itself alone, because attention over nothing is not a number.
    """
    length = max(sum(trees[index].positions for index in row) for row in rows)
    columns: dict[str, list[list[int]]] = {"ids": [], "positions": [], "trees": [], "branches": []}
    predictors: dict[int, list[int]] = {}
    tokens: dict[int, list[int]] = {}
    places: dict[int, TreeSpan] = {}
    for number, row in enumerate(rows):
        ids: list[int] = []
        positions: list[int] = []
        tree_ids: list[int] = []
        branches: list[int] = []
        for index in row:
            tree, start, before = trees[index], len(ids), number * length
            prompt = len(tree.prompt)
            ids += tree.prompt
            positions += range(prompt)
            branches += [0] * prompt
            predictors[index], tokens[index] = [], []
            for branch, response in enumerate(tree.responses, start=1):
                flat = before + len(ids)
                predictors[index] += [before + start + prompt - 1, *range(flat, flat + len(response) - 1)]
                tokens[index] += range(flat, flat + len(response))
                ids += response
                positions += range(prompt, prompt + len(response))
                branches += [branch] * len(response)
            tree_ids += [index] * tree.positions
            places[index] = (number, start, len(ids))
        rest = length - len(ids)
        for name, values, padding in zip(columns, (ids, positions, tree_ids, branches), (0, 0, -1, 0), strict=True):
            columns[name].append(values + [padding] * rest)
    order = [index for row in rows for index in row]
    return Batch(
        trees=tuple(trees[index] for index in order),
        tree_indices=tuple(order),
        input_ids=torch.tensor(columns["ids"]),
        position_ids=torch.tensor(columns["positions"]),
        attention_mask=_tree_mask(torch.tensor(columns["trees"]), torch.tensor(columns["branches"])),
        targets=_targets(trees, order),
        predictor_index=torch.tensor([position for index in order for position in predictors[index]]),
        token_index=torch.tensor([position for index in order for position in tokens[index]]),
        lengths=_lengths(trees, order),
        tree_spans=tuple(places[index] for index in order),
    )


def _tree_mask(tree_ids: Tensor, branch_ids: Tensor) -> Tensor:
    length = tree_ids.shape[1]
    same_tree = tree_ids[:, :, None] == tree_ids[:, None, :]
    prompt_or_own = (branch_ids[:, None, :] == 0) | (branch_ids[:, :, None] == branch_ids[:, None, :])
    not_after = torch.ones(length, length, dtype=torch.bool).tril()
    real = (tree_ids >= 0)[:, :, None]
    itself = torch.eye(length, dtype=torch.bool)
    return ((same_tree & prompt_or_own & not_after & real) | itself)[:, None]


def padded_batch(trees: Sequence[PromptTree], indices: Sequence[int]) -> Batch:
    """Lay trees out one branch a row, padded on the right, the prompt repeated; ``indices`` chooses the trees."""
    branches = [(trees[index].prompt, response) for index in indices for response in trees[index].responses]
    length = max(len(prompt) + len(response) for prompt, response in branches)
    input_ids = torch.zeros(len(branches), length, dtype=torch.long)
    attention_mask = torch.zeros(len(branches), length, dtype=torch.long)
    token_index = []
    for row, (prompt, response) in enumerate(branches):
        end = len(prompt) + len(response)
        input_ids[row, :end] = torch.tensor(prompt + response)
        attention_mask[row, :end] = 1
        token_index.append(torch.arange(len(prompt), end) + row * length)
    return Batch(
        trees=tuple(trees[index] for index in indices),
        tree_indices=tuple(indices),
        input_ids=input_ids,
        position_ids=torch.arange(length).expand(len(branches), length).contiguous(),
        attention_mask=attention_mask,
        targets=_targets(trees, indices),
        predictor_index=torch.cat(token_index) - 1,
        token_index=torch.cat(token_index),
        lengths=_lengths(trees, indices),
    )


def _targets(trees: Sequence[PromptTree], order: Sequence[int]) -> Tensor:
    return torch.tensor([token for index in order for response in trees[index].responses for token in response])


def _lengths(trees: Sequence[PromptTree], order: Sequence[int]) -> Tensor:
    return torch.tensor([len(response) for index in order for response in trees[index].responses])


def make_batches(
    trees: Sequence[PromptTree], layout: Layout, token_budget: int, pack_length: int
) -> Iterator[Callable[[], Batch]]:
    """Split trees into micro-batches of at most ``token_budget`` positions (one tree may exceed it).

    Yields functions that build each batch, so that only one batch is alive at a time.
    """
    if layout == "packed":
        for rows in split_packed(trees, token_budget, pack_length):
            yield lambda rows=rows: packed_batch(trees, rows)  # type: ignore[misc]
    else:
        for indices in split_padded(trees, token_budget):
            yield lambda indices=indices: padded_batch(trees, indices)  # type: ignore[misc]
