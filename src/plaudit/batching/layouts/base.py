"""What a layout must do, and what layouts have in common."""

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from plaudit.batching.batches import Batch
from plaudit.batching.trees import PromptTree


class Layout(Protocol):
    """A way to lay trees out as tensors.

    The trunk returns hidden states [rows, length, hidden]; flattened to [rows x length, hidden], a batch's index tables
    say which positions predict the response tokens and which hold them. Losses and heads see these tables alone, so
    results do not depend on the layout.
    """

    name: str

    def split(self, trees: Sequence[PromptTree], token_budget: int, pack_length: int) -> Sequence[Any]:
        """Return the parts that trees are computed in, each of at most ``token_budget`` positions.

        A tree that is larger than the budget is a part by itself. ``pack_length``: most positions of a row that holds
        several trees. What a part is, ``build`` alone needs to know.
        """
        ...

    def build(self, trees: Sequence[PromptTree], part: Any) -> Batch:
        """Return the batch of one part, on the CPU."""
        ...

    def model_inputs(self, batch: Batch, needs_mask: bool) -> dict[str, Tensor]:
        """Return the keyword arguments of the trunk's forward pass.

        Args:
            batch: a batch of this layout.
            needs_mask: False where the model's attention takes the trees from the batch and reads no dense mask; a
                layout whose batches have ``tree_spans`` then leaves out ``attention_mask``.
        """
        ...


def targets(trees: Sequence[PromptTree], order: Sequence[int]) -> Tensor:
    """Return the response tokens of the trees in ``order``, [N]."""
    return torch.tensor([token for index in order for response in trees[index].responses for token in response])


def lengths(trees: Sequence[PromptTree], order: Sequence[int]) -> Tensor:
    """Return the number of tokens of each response of the trees in ``order``, [R]."""
    return torch.tensor([len(response) for index in order for response in trees[index].responses])
