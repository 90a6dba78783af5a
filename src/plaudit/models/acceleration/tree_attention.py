"""Attention over packed trees, tree by tree.

A packed row holds several trees, and a token attends only to its own tree. Attention over the whole row under a mask
mostly computes scores that the mask discards. Here attention is computed per tree: on a CPU with batched matrix
products and an explicit backward pass, on a GPU by ``plaudit.models.acceleration.varlen_attention``.

transformers calls ``attend`` under the name ``TREE_ATTENTION``. If computing per tree would not be faster, ``attend``
calls transformers' own attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from plaudit.batching.batches import Batch, TreeMask, TreeSpan
from plaudit.models.acceleration.cached_attention import cached_keys, decode
from plaudit.models.acceleration.context import current_context
from plaudit.models.acceleration.varlen_attention import (
    Sequences,
    attend_by_sequences,
    kernel_takes,
    sequences_of,
    tree_lengths,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TREE_ATTENTION = "plaudit_trees"
MORE_THAN_SOFTMAX = ("softcap", "s_aux", "position_bias")  # options of models that change the attention scores
LONGEST_TREE = 8192  # positions; the masks of longer trees would need too much memory
LONGEST_KEPT = 512  # positions; for longer trees, the backward pass recomputes the probabilities
QUERIES = 256  # per block: attention is causal, so a long tree in blocks needs half of the products
LEAST_WORK = 2_000_000  # row length² x width per tree; below this, separate calls per tree cost more than they save


@dataclass(frozen=True)
class QueryBlock:
    """Queries ``first`` to ``last`` of a row, within one tree, which attend to keys from the tree's ``start`` on.

    ``mask`` [last - first, last - start] is added to the scores: 0 or -inf. ``kept``: whether the probabilities are
    kept for the backward pass instead of being recomputed.
    """

    row: int
    start: int
    first: int
    last: int
    mask: Tensor
    kept: bool

    @property
    def queries(self) -> tuple[int, slice, slice]:
        """The index of its queries in [rows, heads, length, head size]."""
        return self.row, slice(None), slice(self.first, self.last)

    @property
    def keys(self) -> tuple[int, slice, slice]:
        """The index of its keys in [rows, heads, length, head size]."""
        return self.row, slice(None), slice(self.start, self.last)


@dataclass
class TreeLayout:
    """The spans of the trees of a forward pass, and which tokens attend to each other.

    ``lengths``: tokens of each tree's prompt and responses; empty if not known. ``always``: compute attention per tree
    even if that is slower.
    """

    tree_spans: Sequence[TreeSpan]
    mask: TreeMask
    lengths: Sequence[Sequence[int]] = ()
    always: bool = False
    _trees: list[list[QueryBlock]] = field(default_factory=list)
    _sequences: Sequences | None = None

    @property
    def longest(self) -> int:
        """Positions of the longest tree."""
        return max(end - start for _, start, end in self.tree_spans)

    def trees(self, dtype: torch.dtype) -> list[list[QueryBlock]]:
        """Return each tree's blocks, in order, with masks of ``dtype``; computed once for all layers."""
        if not self._trees or self._trees[0][0].mask.dtype != dtype:
            self._trees = [_blocks(span, self.mask, dtype) for span in self.tree_spans]
        return self._trees

    def sequences(self, row_length: int, device: torch.device) -> Sequences:
        """Return the trees as sequences of queries and keys; computed once for all layers."""
        if self._sequences is None:
            self._sequences = sequences_of(self.tree_spans, self.lengths, row_length, device)
        return self._sequences

    def unread_mask(self) -> Tensor:
        """Return a placeholder mask [rows, 1, length, length] that takes no memory and that ``attend`` ignores.

        Models pass it on to ``attend``. Without a mask they would build a causal one, which nothing would read.
        """
        rows, length = self.mask.tree_ids.shape
        return torch.zeros((), dtype=torch.bool, device=self.mask.tree_ids.device).expand(rows, 1, length, length)


def _is_unread(mask: Tensor | None) -> bool:
    return mask is not None and mask.dim() == 4 and not any(mask.stride())


def _blocks(span: TreeSpan, mask: TreeMask, dtype: torch.dtype) -> list[QueryBlock]:
    row, start, end = span
    blocks = []
    for first in range(start, end, QUERIES):
        last = min(first + QUERIES, end)
        visible = mask.within_tree(row, slice(first, last), slice(start, last))
        added = torch.zeros_like(visible, dtype=dtype).masked_fill_(~visible, -torch.inf)
        blocks.append(QueryBlock(row, start, first, last, added, kept=end - start <= LONGEST_KEPT))
    return blocks


_LAYOUTS: WeakKeyDictionary[Batch, TreeLayout] = WeakKeyDictionary()


def tree_layout(batch: Batch, always: bool = False) -> TreeLayout | None:
    """Return the tree layout of a batch, built once for all forward passes; None if rows hold only parts of trees."""
    if not batch.tree_spans:
        return None
    layout = _LAYOUTS.get(batch)
    if layout is None:
        lengths = [tree_lengths(tree) for tree in batch.trees]
        layout = _LAYOUTS[batch] = TreeLayout(batch.tree_spans, batch.mask, lengths, always)
    return layout


def layout_of_prompts(starts: Sequence[int], length: int) -> TreeLayout | None:
    """Return the layout of rows of ``length``, left-padded up to ``starts``, one tree each; None for long prompts."""
    if length > LONGEST_TREE:
        return None
    real = torch.arange(length) >= torch.tensor(starts)[:, None]
    mask = TreeMask(real.long() - 1, torch.zeros_like(real, dtype=torch.long))
    return TreeLayout([(row, start, length) for row, start in enumerate(starts)], mask)


def register_tree_attention() -> None:
    """Make ``attend`` known to transformers under the name that configurations give it."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(TREE_ATTENTION, attend)
    AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)


def use_tree_attention(model: "PreTrainedModel") -> None:
    """Make a transformers model use ``attend``. Raises ValueError for models that choose their own attention."""
    register_tree_attention()
    model.set_attn_implementation(TREE_ATTENTION)


def attends_by_trees(model: "PreTrainedModel") -> bool:
    """Whether a transformers model uses ``attend``, which takes the trees from the forward context."""
    return bool(getattr(model.config, "_attn_implementation", None) == TREE_ATTENTION)


def attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """Return attention's output [rows, length, heads, head size], like transformers' attention functions.

    ``query`` [rows, heads, length, head size]; ``key`` and ``value`` may have fewer heads, each for a group of query
    heads.
    """
    context = current_context()
    layout = None if context is None else context.trees
    if layout is None and _is_unread(attention_mask):
        raise RuntimeError(
            "attention over packed trees was called outside its forward context; use recompute_activations to enable "
            "gradient checkpointing"
        )
    changed = bool(dropout) or any(options.get(name) is not None for name in MORE_THAN_SOFTMAX)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    cached = None if changed else cached_keys(key)
    if cached is not None and cached.states is not None:
        return decode(query, attention_mask, scale, cached.states), None
    if layout is not None and layout.lengths and not changed and kernel_takes(query, key, value):
        sequences = layout.sequences(query.shape[2], query.device)
        return attend_by_sequences(query.to(value.dtype), key.to(value.dtype), value, sequences, scale), None
    if layout is None or changed or not _is_worth_it(layout, query):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        if layout is not None:
            attention_mask = layout.mask.dense()
        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output, None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # Under autocast the rotary embedding returns float32 queries and keys, while values are bfloat16.
    trees = layout.trees(value.dtype)
    attended: Tensor = _TreeAttention.apply(query.to(value.dtype), key.to(value.dtype), value, trees, scale)
    return attended, None


def _is_worth_it(layout: TreeLayout, query: Tensor) -> bool:
    if query.device.type != "cpu" or layout.longest > LONGEST_TREE:
        return False
    rows, heads, length, size = query.shape
    return layout.always or rows * length * length * heads * size >= LEAST_WORK * len(layout.tree_spans)


class _TreeAttention(torch.autograd.Function):
    """``softmax(Q K^T scale + mask) V`` for every tree; positions outside of trees get zeros.

    Attention is causal, so a block of queries needs only the keys up to its own last query: half of the products.
    """

    @staticmethod
    def forward(
        context: Any, query: Tensor, key: Tensor, value: Tensor, trees: Sequence[Sequence[QueryBlock]], scale: float
    ) -> Tensor:
        """Return [rows, length, heads, head size]; short trees' probabilities are kept for the backward pass."""
        rows, heads, length, size = query.shape
        output = value.new_zeros(rows, length, heads, size)
        kept = []
        for block in chain.from_iterable(trees):
            probabilities = _probabilities(query, key, block, scale)
            output[block.row, block.first : block.last] = torch.bmm(probabilities, value[block.keys]).transpose(0, 1)
            if block.kept:
                kept.append(probabilities)
        context.save_for_backward(query, key, value, *kept)
        context.trees, context.scale = trees, scale
        return output

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to query, key and value, given that of the output."""
        query, key, value, *kept = context.saved_tensors
        gradient, scale = gradient.transpose(1, 2), context.scale
        to_query, to_key, to_value = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for tree in reversed(context.trees):
            # Gradients from several blocks are summed in float32. The last block attends to all keys of the tree.
            wide = torch.promote_types(key.dtype, torch.float32) if len(tree) > 1 else key.dtype
            whole = tree[-1].keys
            key_sum, value_sum = (torch.zeros_like(to_key[whole], dtype=wide) for _ in range(2))
            for block in reversed(tree):
                probabilities = kept.pop() if block.kept else _probabilities(query, key, block, scale)
                own, visible = gradient[block.queries], block.last - block.start
                to_probabilities = torch.bmm(own, value[block.keys].transpose(1, 2))
                to_scores = torch._softmax_backward_data(to_probabilities, probabilities, -1, probabilities.dtype)
                to_query[block.queries] = torch.bmm(to_scores, key[block.keys]).mul_(scale)
                key_sum[:, :visible] += torch.bmm(to_scores.transpose(1, 2), query[block.queries])
                value_sum[:, :visible] += torch.bmm(probabilities.transpose(1, 2), own)
            to_key[whole], to_value[whole] = key_sum.mul_(scale), value_sum
        return to_query, to_key, to_value, None, None


def _probabilities(query: Tensor, key: Tensor, block: QueryBlock, scale: float) -> Tensor:
    """Return the attention probabilities of a block, [heads, queries, keys]."""
    return torch.baddbmm(block.mask, query[block.queries], key[block.keys].transpose(1, 2), alpha=scale).softmax(-1)
