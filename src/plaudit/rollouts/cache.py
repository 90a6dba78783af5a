"""Keys and values of attention in tensors of their final size: a step writes one column and copies nothing.

Measured on a 30M Llama on a CPU, this makes decoding 15 to 35 % faster than growing the cache by concatenation.
"""

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """One layer's keys and values [rows, heads, capacity, head size]; the first ``length`` columns are filled."""

    def __init__(
        self, keys: Tensor, values: Tensor, rows: Tensor, capacity: int, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.length = keys.shape[2]
        self.keys = _with_room(keys, rows, capacity, dtype or keys.dtype)
        self.values = _with_room(values, rows, capacity, dtype or values.dtype)
        self.dtype, self.device, self.is_initialized = self.keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Append the states of new tokens; return those of all tokens, as views."""
        start, self.length = self.length, self.length + key_states.shape[2]
        self.keys[:, :, start : self.length] = key_states
        self.values[:, :, start : self.length] = value_states
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    def get_seq_length(self) -> int:
        """Return the number of tokens held."""
        return self.length


def preallocated(prefilled: DynamicCache, rows: Tensor, capacity: int, dtype: torch.dtype | None = None) -> Cache:
    """Return a cache for ``capacity`` tokens whose row i starts as row ``rows[i]`` of a prefilled cache.

    Keys and values are kept in ``dtype``; by default each in its own.
    """
    return Cache(
        layers=[PreallocatedLayer(layer.keys, layer.values, rows, capacity, dtype) for layer in prefilled.layers]
    )


def keep_rows(cache: Cache, rows: Tensor) -> None:
    """Keep only the given rows of every layer."""
    for layer in cache.layers:
        layer.batch_select_indices(rows)


def _with_room(states: Tensor, rows: Tensor, capacity: int, dtype: torch.dtype) -> Tensor:
    _, heads, length, size = states.shape
    room = states.new_empty(len(rows), heads, capacity, size, dtype=dtype)
    room[:, :, :length] = states[rows]
    return room
