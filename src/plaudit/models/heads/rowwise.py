"""Functions of rows of logits, a few rows at a time, so that intermediate results stay in the processor's cache.

A row is as long as the vocabulary. Over whole arrays, every exponential and every sum would wait for memory.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

BLOCK_BYTES = 2**20  # float32 numbers of one block: the size of a second-level cache, or half of it

Function = Callable[[Tensor, Tensor], tuple[Tensor, ...]]


def by_rows(function: Function, logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
    """Return ``function(logits, targets)`` for logits [N, vocabulary], targets [N] and results [N].

    Each result must depend on its own row only. Only the logits are kept for the backward pass, which recomputes the
    function. Floating-point results pass gradients to the logits. On an accelerator the function is called once on all
    rows.
    """
    if logits.device.type != "cpu" or logits.numel() * 4 <= BLOCK_BYTES:
        return function(logits, targets)
    results: tuple[Tensor, ...] = _ByRows.apply(function, logits, targets)
    return results


def _blocks(logits: Tensor) -> Iterator[slice]:
    rows = max(1, BLOCK_BYTES // (4 * logits.shape[1]))
    for start in range(0, len(logits), rows):
        yield slice(start, start + rows)


class _ByRows(torch.autograd.Function):
    """Calls a function on one block of rows after the other."""

    @staticmethod
    def forward(context: Any, function: Function, logits: Tensor, targets: Tensor) -> tuple[Tensor, ...]:
        """Return the results of all blocks, joined."""
        parts = [function(logits[rows], targets[rows]) for rows in _blocks(logits)]
        results = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        context.function = function
        context.save_for_backward(logits, targets)
        context.mark_non_differentiable(*(result for result in results if not result.is_floating_point()))
        return results

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradient with respect to the logits."""
        logits, targets = context.saved_tensors
        whole = torch.empty_like(logits)
        for rows in _blocks(logits):
            block = logits[rows].detach().requires_grad_()
            with torch.enable_grad():
                results = context.function(block, targets[rows])
            learned = [number for number, result in enumerate(results) if result.requires_grad]
            (whole[rows],) = torch.autograd.grad(
                [results[number] for number in learned], [block], [gradients[number][rows] for number in learned]
            )
        return None, whole, None
