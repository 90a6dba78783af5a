"""Attention of one new token in every row, with keys and values of a prompt stored once for all its responses.

Decoding is limited by memory bandwidth. Here keys and values are read once per token, in the type in which training
computes attention, and a prompt's are still in the core's cache when its next response needs them. torch's own
attention takes several times as long for a single query.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from plaudit.models.acceleration.context import current_context


@dataclass
class RowStates:
    """Keys and values of one layer, all of one type.

    ``prompt_keys``, ``prompt_values`` [prompts, key heads, prompt length, head size]; ``prompt_of_row`` [rows] is the
    index of each row's prompt. ``keys``, ``values`` [rows, key heads, capacity, head size] belong to the generated
    tokens of each row; the first ``length`` columns are filled.
    """

    prompt_keys: Tensor
    prompt_values: Tensor
    prompt_of_row: Tensor
    keys: Tensor
    values: Tensor
    length: int = 0


class CachedKeys:
    """Passed by a cache layer to ``attend``, together with the keys that it returns.

    ``reached``: whether those keys arrived in ``attend`` unchanged. ``states``: set if ``decode`` computes the
    attention.
    """

    def __init__(self, states: RowStates | None = None) -> None:
        self.reached = False
        self.states = states


def hand_out(key: Tensor, cached: CachedKeys) -> None:
    """Make ``cached`` available to the ``attend`` call that receives ``key`` in the current forward pass."""
    context = current_context()
    if context is not None:
        context.handed_out = key, cached
    elif cached.states is not None:
        raise RuntimeError("decoding with this cache needs a forward context; open one with forward_context")


def cached_keys(key: Tensor) -> CachedKeys | None:
    """Return what a cache layer passed on with ``key``, and record that the key arrived; None for any other key."""
    context = current_context()
    if context is None or context.handed_out is None or context.handed_out[0] is not key:
        return None
    cached = context.handed_out[1]
    cached.reached = True
    return cached


def missing_library() -> str | None:
    """Return which package ``decode`` lacks and how to install it, or None if nothing is missing."""
    return None if find_spec("numba") else "numba is not installed; run: pip install 'plaudit[cpu]'"


def stored_type(states: Tensor) -> torch.dtype:
    """Return the type in which ``decode`` expects keys and values: float32 for float16, otherwise their own."""
    return torch.float32 if states.dtype == torch.float16 else states.dtype


def decode(query: Tensor, mask: Tensor | None, scale: float, states: RowStates) -> Tensor:
    """Return attention's output [rows, 1, heads, head size] for one token of every row; the head size is even.

    ``query`` [rows, heads, 1, head size]; the number of heads is a multiple of the number of key heads. ``mask`` bool
    [rows, 1, 1, prompt length + length]. Sums and softmax are float32, or float64 if the states are.
    """
    from plaudit.models.acceleration.decoding_kernel import add_values, write_scores

    rows, heads, _, size = query.shape
    columns = states.prompt_keys.shape[2] + states.length
    visible = query.new_ones(rows, columns, dtype=torch.bool) if mask is None else mask[:, 0, 0].contiguous()
    wide = torch.promote_types(states.keys.dtype, torch.float32)
    queries = query.to(wide).mul(scale).view(rows, heads, size // 2, 2).transpose(2, 3).contiguous()
    scores = queries.new_empty(rows, heads, columns)
    prompt_of_row = states.prompt_of_row.numpy()
    write_scores(
        queries.numpy(), _pairs(states.prompt_keys), prompt_of_row, _pairs(states.keys), visible.numpy(), scores.numpy()
    )
    probabilities, sums = scores.softmax(-1), torch.empty_like(queries)
    add_values(probabilities.numpy(), _pairs(states.prompt_values), prompt_of_row, _pairs(states.values), sums.numpy())
    return sums.transpose(2, 3).reshape(rows, 1, heads, size).to(query.dtype)


def _pairs(states: Tensor) -> Any:
    """Return a view [..., head size / 2] of pairs of numbers: 32-bit words for bfloat16, else complex numbers."""
    if states.dtype == torch.bfloat16:
        return states.view(torch.uint32).numpy()
    return torch.view_as_complex(states.unflatten(-1, (-1, 2))).numpy()
