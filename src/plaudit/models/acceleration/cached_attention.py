"""Attention of one new token in every row, with keys and values of a prompt stored once for all its responses.

What decoding waits for is memory: keys and values are read once a token in the type that training attends in, and
those of a prompt lie in a core's cache when its next response asks for them. torch's own attention takes several times
as long for a single query.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class RowStates:
    """Keys and values of one layer, all of one type.

    ``prompt_keys``, ``prompt_values`` [prompts, key heads, prompt length, head size]; ``prompt_of_row`` [rows] says
    which prompt a row goes on from. ``keys``, ``values`` [rows, key heads, room, head size] are the rows' own, of which
    the first ``length`` columns are filled.
    """

    prompt_keys: Tensor
    prompt_values: Tensor
    prompt_of_row: Tensor
    keys: Tensor
    values: Tensor
    length: int = 0


class CachedKeys:
    """What a cache layer fastens to its keys, as ``plaudit_cache``, to meet them again in ``attend``.

    ``reached`` is set when keys arrive there as the cache gave them. ``states`` are set where ``decode`` is to attend.
    """

    def __init__(self, states: RowStates | None = None) -> None:
        self.reached = False
        self.states = states


def cached_keys(key: Tensor) -> CachedKeys | None:
    """Return what a cache layer has fastened to keys, and note that they arrived."""
    cached: CachedKeys | None = getattr(key, "plaudit_cache", None)
    if cached is not None:
        cached.reached = True
    return cached


def stored_type(states: Tensor) -> torch.dtype:
    """Return the type that ``decode`` takes keys and values in: their own, but float32 for float16."""
    return torch.float32 if states.dtype == torch.float16 else states.dtype


def decode(query: Tensor, mask: Tensor | None, scale: float, states: RowStates) -> Tensor:
    """Return attention's output [rows, 1, heads, head size] for one token of every row; the head size is even.

    ``query`` [rows, heads, 1, head size]; the heads are as many as key heads, or a multiple that share them. ``mask``
    bool [rows, 1, 1, prompt length + length]. Sums and softmax are float32, or float64 if the states are.
    """
    from plaudit.models.acceleration.decoding_kernel import add_values, write_scores

    rows, heads, _, size = query.shape
    columns = states.prompt_keys.shape[2] + states.length
    seen = query.new_ones(rows, columns, dtype=torch.bool) if mask is None else mask[:, 0, 0].contiguous()
    wide = torch.promote_types(states.keys.dtype, torch.float32)
    queries = query.to(wide).mul(scale).view(rows, heads, size // 2, 2).transpose(2, 3).contiguous()
    scores = queries.new_empty(rows, heads, columns)
    prompt_of_row = states.prompt_of_row.numpy()
    write_scores(
        queries.numpy(), _pairs(states.prompt_keys), prompt_of_row, _pairs(states.keys), seen.numpy(), scores.numpy()
    )
    shares, sums = scores.softmax(-1), torch.empty_like(queries)
    add_values(shares.numpy(), _pairs(states.prompt_values), prompt_of_row, _pairs(states.values), sums.numpy())
    return sums.transpose(2, 3).reshape(rows, 1, heads, size).to(query.dtype)


def _pairs(states: Tensor) -> Any:
    """Return [..., head size / 2] pairs of numbers, in place: words of two bfloat16, else complex numbers."""
    if states.dtype == torch.bfloat16:
        return states.view(torch.uint32).numpy()
    return torch.view_as_complex(states.unflatten(-1, (-1, 2))).numpy()
