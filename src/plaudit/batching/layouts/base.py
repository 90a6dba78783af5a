"""The interface of layouts, and functions that they share."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from plaudit.batching.batches import Batch
from plaudit.batching.trees import PromptTree


class Layout(Protocol):
    """A way to arrange trees in tensors.

    The trunk returns hidden states [rows, length, hidden]. A batch's indices into the flattened states
    [rows x length, hidden] give the positions that predict the response tokens and the positions that hold them. Losses
    and heads use only these indices, so results do not depend on the layout.
    """

    name: str
    needs_tree_mask: bool
    """Whether a row may hold several responses, so that the model must apply the batch's tree mask. The batches then
    have ``tree_spans``, and the model gets tree attention."""

    def split(self, trees: Sequence[PromptTree], token_budget: int, pack_length: int) -> Sequence[Any]:
        """Split trees into parts of at most ``token_budget`` positions; each part becomes a batch.

        A tree larger than the budget is a part by itself. ``pack_length``: maximum length of a row with several trees.
        Only ``build`` interprets the parts.
        """
        ...

    def build(self, trees: Sequence[PromptTree], part: Any) -> Batch:
        """Return the batch of one part, on the CPU."""
        ...

    def model_inputs(self, batch: Batch, needs_mask: bool) -> dict[str, Tensor]:
        """Return the keyword arguments of the trunk's forward pass.

        Args:
            batch: a batch of this layout.
            needs_mask: False if the model's attention takes the trees from the batch instead of a dense mask; a layout
                whose batches have ``tree_spans`` then leaves out ``attention_mask``.
        """
        ...


def targets(trees: Sequence[PromptTree], order: Sequence[int]) -> Tensor:
    """Return the response tokens of the trees in ``order``, [N]."""
    return torch.tensor([token for index in order for response in trees[index].responses for token in response])


def lengths(trees: Sequence[PromptTree], order: Sequence[int]) -> Tensor:
    """Return the number of tokens of each response of the trees in ``order``, [R]."""
    return torch.tensor([len(response) for index in order for response in trees[index].responses])
