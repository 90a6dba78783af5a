"""Attention over packed trees, tree by tree.

A packed row holds several trees, and a token sees its own tree alone: attention over the whole row under a mask mostly
computes what the mask throws away. Here every tree is attended to by itself, with plain batched matrix products and a
backward pass written out.

transformers calls ``attend`` under the name ``TREE_ATTENTION``; whatever is not worth it goes to its own attention.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch, TreePlace
from plaudit.models.decoding import cached_keys, decode

TREE_ATTENTION = "plaudit_trees"
MORE_THAN_SOFTMAX = ("softcap", "s_aux", "position_bias")  # options of models that do something else to the scores
LONGEST_TREE = 1024  # positions; the probabilities of longer trees would fill the memory
LEAST_WORK = 2_000_000  # row positions² x width per tree, under which the calls for each tree cost more than they save


@dataclass
class TreeLayout:
    """Where the trees of a batch are; ``always``: attend tree by tree even where it does not pay."""

    places: Sequence[TreePlace]
    always: bool
    _masks: list[Tensor] = field(default_factory=list)

    @property
    def longest(self) -> int:
        """Positions of the longest tree."""
        return max(end - start for _, start, end in self.places)

    def masks(self, dense: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Return what each tree's tokens may look at, 0 or -inf [length, length], cut from the batch's ``dense`` mask.

        They are cut once: every layer adds the same ones.
        """
        if not self._masks or self._masks[0].dtype != dtype:
            parts = [dense[row, 0, start:end, start:end] for row, start, end in self.places]
            self._masks = [torch.zeros_like(part, dtype=dtype).masked_fill_(~part, -torch.inf) for part in parts]
        return self._masks


def mark(batch: Batch, always: bool = False) -> Tensor:
    """Return the batch's attention mask; a packed one carries the places of its trees to ``attend``."""
    mask = batch.attention_mask
    if batch.places and not hasattr(mask, "tree_layout"):
        mask.tree_layout = TreeLayout(batch.places, always)  # type: ignore[attr-defined]
    return mask


def mask_of_prompts(starts: Sequence[int], length: int) -> Tensor | None:
    """Return the causal mask, bool [rows, 1, length, length], of rows that are padded up to ``starts``, for ``attend``.

    None where a prompt is too long for it. Padding sees itself alone, as in packed batches.
    """
    if length > LONGEST_TREE:
        return None
    columns = torch.arange(length)
    real = columns >= torch.tensor(starts)[:, None]
    causal = torch.ones(length, length, dtype=torch.bool).tril()
    mask = (causal & real[:, None, :] | torch.eye(length, dtype=torch.bool))[:, None]
    places = [(row, start, length) for row, start in enumerate(starts)]
    mask.tree_layout = TreeLayout(places, always=False)  # type: ignore[attr-defined]
    return mask


def use_tree_attention(model: Any) -> None:
    """Let a transformers model attend by ``attend``. Raises ValueError for models that choose their own attention."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

    AttentionInterface.register(TREE_ATTENTION, attend)
    AttentionMaskInterface.register(TREE_ATTENTION, sdpa_mask)
    model.set_attn_implementation(TREE_ATTENTION)


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
    """Return the attention's output [rows, length, heads, head size], as transformers' attention functions do.

    ``query`` [rows, heads, length, head size]; ``key`` and ``value`` may have fewer heads, each for a group of queries.
    """
    layout = getattr(attention_mask, "tree_layout", None)
    changed = bool(dropout) or any(options.get(name) is not None for name in MORE_THAN_SOFTMAX)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    cached = None if changed else cached_keys(key)
    if cached is not None and cached.decodes:
        return decode(query, key, value, attention_mask, scale, cached.prompt), None
    if layout is None or changed or not _is_worth_it(layout, query):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        output, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return output, None
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    # Under autocast the rotary embedding hands over float32 queries and keys beside bfloat16 values.
    assert attention_mask is not None
    masks = layout.masks(attention_mask, value.dtype)
    query, key = query.to(value.dtype), key.to(value.dtype)
    attended: Tensor = _TreeAttention.apply(query, key, value, layout.places, masks, scale)
    return attended, None


def _is_worth_it(layout: TreeLayout, query: Tensor) -> bool:
    if query.device.type != "cpu" or layout.longest > LONGEST_TREE:
        return False
    rows, heads, length, size = query.shape
    return layout.always or rows * length * length * heads * size >= LEAST_WORK * len(layout.places)


class _TreeAttention(torch.autograd.Function):
    """``softmax(Q K^T scale + mask) V`` for every tree; positions outside of trees get zeros."""

    @staticmethod
    def forward(
        context: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        places: Sequence[TreePlace],
        masks: Sequence[Tensor],
        scale: float,
    ) -> Tensor:
        """Return [rows, length, heads, head size]; the trees' probabilities are kept for the backward pass."""
        rows, heads, length, size = query.shape
        output = value.new_zeros(rows, length, heads, size)
        probabilities = []
        for (row, start, end), mask in zip(places, masks, strict=True):
            q, k, v = query[row, :, start:end], key[row, :, start:end], value[row, :, start:end]
            scores = torch.baddbmm(mask, q, k.transpose(1, 2), alpha=scale)
            probabilities.append(scores.softmax(-1))
            output[row, start:end] = torch.bmm(probabilities[-1], v).transpose(0, 1)
        context.save_for_backward(query, key, value, *probabilities)
        context.places, context.scale = places, scale
        return output

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients by query, key and value, from that of the output."""
        query, key, value, *probabilities = context.saved_tensors
        gradients = torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value)
        for (row, start, end), shares in zip(context.places, probabilities, strict=True):
            tree = (row, slice(None), slice(start, end))
            own = gradient[row, start:end].transpose(0, 1)
            gradients[2][tree] = torch.bmm(shares.transpose(1, 2), own)
            to_shares = torch.bmm(own, value[tree].transpose(1, 2))
            to_scores = torch._softmax_backward_data(to_shares, shares, -1, shares.dtype)
            gradients[0][tree] = torch.bmm(to_scores, key[tree]).mul_(context.scale)
            gradients[1][tree] = torch.bmm(to_scores.transpose(1, 2), query[tree]).mul_(context.scale)
        return *gradients, None, None, None
