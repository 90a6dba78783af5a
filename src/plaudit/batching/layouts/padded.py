"""Padded rows: one response per row after its prompt, padded on the right. Works with every causal model."""

from collections.abc import Sequence

import torch
from torch import Tensor

from plaudit.batching.batches import Batch, TreeMask
from plaudit.batching.layouts.base import lengths, targets
from plaudit.batching.trees import PromptTree


class PaddedLayout:
    """A row is a prompt with one of its responses."""

    name = "padded"
    needs_tree_mask = False

    def split(self, trees: Sequence[PromptTree], token_budget: int, pack_length: int) -> list[list[int]]:
        """Return the tree indices of each micro-batch; trees are never split, and ``pack_length`` has no effect."""
        widths = [len(tree.prompt) + max(len(response) for response in tree.responses) for tree in trees]
        groups: list[list[int]] = []
        branches = 0
        for index in sorted(range(len(trees)), key=lambda i: -widths[i]):
            count = len(trees[index].responses)
            if groups and (branches + count) * widths[groups[-1][0]] <= token_budget:
                groups[-1].append(index)
                branches += count
            else:
                groups.append([index])
                branches = count
        return groups

    def build(self, trees: Sequence[PromptTree], part: Sequence[int]) -> Batch:
        """Build the batch of the trees in ``part``, a list of tree indices."""
        branches = [
            (index, number, trees[index].prompt, response)
            for index in part
            for number, response in enumerate(trees[index].responses, start=1)
        ]
        length = max(len(prompt) + len(response) for *_, prompt, response in branches)
        input_ids, branch_ids = torch.zeros(2, len(branches), length, dtype=torch.long)
        tree_ids = torch.full_like(input_ids, -1)
        token_index = []
        for row, (index, number, prompt, response) in enumerate(branches):
            end = len(prompt) + len(response)
            input_ids[row, :end] = torch.tensor(prompt + response)
            tree_ids[row, :end] = index
            branch_ids[row, len(prompt) : end] = number
            token_index.append(torch.arange(len(prompt), end) + row * length)
        return Batch(
            layout=self,
            trees=tuple(trees[index] for index in part),
            tree_indices=tuple(part),
            input_ids=input_ids,
            position_ids=torch.arange(length).expand(len(branches), length).contiguous(),
            mask=TreeMask(tree_ids, branch_ids),
            targets=targets(trees, part),
            predictor_index=torch.cat(token_index) - 1,
            token_index=torch.cat(token_index),
            lengths=lengths(trees, part),
        )

    def model_inputs(self, batch: Batch, needs_mask: bool) -> dict[str, Tensor]:
        """Return ids, positions and the mask of real tokens, int64 [rows, length]."""
        return {
            "input_ids": batch.input_ids,
            "position_ids": batch.position_ids,
            "attention_mask": batch.mask.real.long(),
        }


PADDED = PaddedLayout()
