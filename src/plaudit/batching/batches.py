"""A batch of prompt trees as tensors. Its fields mean the same in every layout."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.batching.trees import PromptTree

if TYPE_CHECKING:
    from plaudit.batching.layouts.base import Layout

TreeSpan = tuple[int, int, int]
"""The position of a tree: its row, its first column, and the column after its last."""


@dataclass(frozen=True, eq=False)
class TreeMask:
    """The tokens that may attend to each other, given by two numbers per token:

    - ``tree_ids``: [rows, length], the tree that a token belongs to, -1 for padding
    - ``branch_ids``: [rows, length], 0 in a prompt, k in the k-th response

    A token attends to itself and to earlier tokens of the same prompt and the same response.
    Padding attends to itself, because softmax over no keys is NaN.
    """

    tree_ids: Tensor
    branch_ids: Tensor
    _dense: list[Tensor] = field(default_factory=list, init=False)

    @property
    def real(self) -> Tensor:
        """True on tokens, False on padding, bool [rows, length]."""
        return self.tree_ids >= 0

    def dense(self) -> Tensor:
        """Return the mask, bool [rows, 1, queries, keys], True where a query may attend to a key; computed once."""
        if not self._dense:
            self._dense.append(dense_tree_mask(self.tree_ids, self.branch_ids))
        return self._dense[0]

    def within_tree(self, row: int, queries: slice, keys: slice) -> Tensor:
        """Return a part of the mask whose columns all belong to one tree, bool [queries, keys]."""
        columns = torch.arange(self.branch_ids.shape[1], device=self.branch_ids.device)
        own, other = self.branch_ids[row, queries, None], self.branch_ids[row, None, keys]
        return ((other == 0) | (other == own)) & (columns[keys] <= columns[queries, None])

    def to(self, device: torch.device) -> "TreeMask":
        """Return the mask on ``device``."""
        return TreeMask(self.tree_ids.to(device), self.branch_ids.to(device))


def dense_tree_mask(tree_ids: Tensor, branch_ids: Tensor) -> Tensor:
    """Return the mask that ``TreeMask`` describes, bool [rows, 1, length, length]."""
    length, device = tree_ids.shape[1], tree_ids.device
    same_tree = tree_ids[:, :, None] == tree_ids[:, None, :]
    prompt_or_own = (branch_ids[:, None, :] == 0) | (branch_ids[:, :, None] == branch_ids[:, None, :])
    not_after = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    real = (tree_ids >= 0)[:, :, None]
    itself = torch.eye(length, dtype=torch.bool, device=device)
    return ((same_tree & prompt_or_own & not_after & real) | itself)[:, None]


@dataclass(frozen=True, eq=False)
class Batch:
    """Trees laid out as rows of tokens.

    With N learned tokens in R responses, in the order of ``trees`` and, within a tree, of its responses:

    - ``layout``: the layout that made the batch
    - ``tree_indices``: index of each tree in the sequence that the batch was made from
    - ``input_ids``, ``position_ids``: [rows, length]
    - ``mask``: which of these tokens may attend to each other
    - ``targets``: [N], the learned tokens
    - ``predictor_index``: [N], flat position (row x length + column) of the token before each learned token
    - ``token_index``: [N], flat position of each learned token
    - ``lengths``: [R], learned tokens of each response
    - ``tree_spans``: the position of each tree; empty if a tree is spread over several rows
    - ``response_ends``: [R], flat position of the last token of each response; None if that token is learned

    A layout builds a batch as if all response tokens were learned; ``learned_only`` then removes the others.
    """

    layout: "Layout"
    trees: tuple[PromptTree, ...]
    tree_indices: tuple[int, ...]
    input_ids: Tensor
    position_ids: Tensor
    mask: TreeMask
    targets: Tensor
    predictor_index: Tensor
    token_index: Tensor
    lengths: Tensor
    tree_spans: tuple[TreeSpan, ...] = ()
    response_ends: Tensor | None = None

    @property
    def last_token_index(self) -> Tensor:
        """Flat position of the last token of each response, learned or not, [R]."""
        return self.token_index[self.lengths.cumsum(0) - 1] if self.response_ends is None else self.response_ends

    def learned_only(self) -> "Batch":
        """Return the batch with targets and indices for the learned tokens only; the model still reads all tokens."""
        if all(tree.learned is None for tree in self.trees):
            return self
        flags = [flag for tree in self.trees for number in range(len(tree.responses)) for flag in tree.flags(number)]
        learned = torch.tensor(flags)
        return replace(
            self,
            targets=self.targets[learned],
            predictor_index=self.predictor_index[learned],
            token_index=self.token_index[learned],
            lengths=torch.tensor([length for tree in self.trees for length in tree.lengths]),
            response_ends=self.last_token_index,
        )

    @property
    def positions(self) -> int:
        """Token positions that a forward pass computes, including padding."""
        return self.input_ids.numel()

    def dense_mask(self) -> Tensor:
        """Return the attention mask, bool [rows, 1, queries, keys], True where a query may attend to a key."""
        return self.mask.dense()

    def to(self, device: torch.device) -> "Batch":
        """Return the batch with every tensor on ``device``."""
        moved: dict[str, Any] = {
            each.name: value.to(device)
            for each in fields(self)
            if isinstance(value := getattr(self, each.name), Tensor | TreeMask)
        }
        return replace(self, **moved)


def make_batches(
    trees: Sequence[PromptTree], layout: "Layout", token_budget: int, pack_length: int
) -> Iterator[Callable[[], Batch]]:
    """Split trees into micro-batches of at most ``token_budget`` positions (one tree may exceed it).

    Yields functions that build the batches, so that only one batch is in memory at a time.
    """
    for part in layout.split(trees, token_budget, pack_length):
        yield lambda part=part: layout.build(trees, part).learned_only()  # type: ignore[misc]
