"""Packed rows: several trees in a row, each prompt stored once for all its responses."""

from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, TreeMask, TreeSpan
from plaudit.batching.layouts.base import lengths, targets
from plaudit.batching.packing import group_by_budget, pack_rows
from plaudit.batching.trees import PromptTree

Row = list[int]
"""The indices of the trees in a row."""


class PackedLayout:
    """A token attends to itself and to earlier tokens of the same prompt and the same response.

    The model must support four-dimensional attention masks and explicit positions.
    """

    name = "packed"
    needs_tree_mask = True

    def split(self, trees: Sequence[PromptTree], token_budget: int, pack_length: int) -> list[list[Row]]:
        """Return the rows of each micro-batch."""
        sizes = [tree.positions for tree in trees]
        rows = pack_rows(sizes, min(pack_length, token_budget))
        widths = [sum(sizes[index] for index in row) for row in rows]
        return [[rows[i] for i in group] for group in group_by_budget(widths, token_budget)]

    def build(self, trees: Sequence[PromptTree], part: Sequence[Sequence[int]]) -> Batch:
        """Build the batch of ``part``, which holds the tree indices of each row."""
        length = max(sum(trees[index].positions for index in row) for row in part)
        columns: dict[str, list[list[int]]] = {"ids": [], "positions": [], "trees": [], "branches": []}
        predictors: dict[int, list[int]] = {}
        tokens: dict[int, list[int]] = {}
        spans: dict[int, TreeSpan] = {}
        for number, row in enumerate(part):
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
                spans[index] = (number, start, len(ids))
            rest = length - len(ids)
            for name, values, padding in zip(columns, (ids, positions, tree_ids, branches), (0, 0, -1, 0), strict=True):
                columns[name].append(values + [padding] * rest)
        order = [index for row in part for index in row]
        return Batch(
            layout=self,
            trees=tuple(trees[index] for index in order),
            tree_indices=tuple(order),
            input_ids=torch.tensor(columns["ids"]),
            position_ids=torch.tensor(columns["positions"]),
            mask=TreeMask(torch.tensor(columns["trees"]), torch.tensor(columns["branches"])),
            targets=targets(trees, order),
            predictor_index=torch.tensor([position for index in order for position in predictors[index]]),
            token_index=torch.tensor([position for index in order for position in tokens[index]]),
            lengths=lengths(trees, order),
            tree_spans=tuple(spans[index] for index in order),
        )

    def model_inputs(self, batch: Batch, needs_mask: bool) -> dict[str, Tensor]:
        """Return ids and positions and, if needed, the mask [rows, 1, length, length]."""
        inputs = {"input_ids": batch.input_ids, "position_ids": batch.position_ids}
        return inputs | ({"attention_mask": batch.dense_mask()} if needs_mask else {})


PACKED = PackedLayout()
