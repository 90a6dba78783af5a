"""The cache that is filled with the keys and values of prompts before responses are decoded."""

from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer

from plaudit.models.acceleration.cached_attention import CachedKeys, hand_out


class PrefillLayer(DynamicLayer):
    """One layer's keys and values of prompts, [prompts, heads, length, head size]."""

    def __init__(self) -> None:
        super().__init__()
        self.cached = CachedKeys()

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Store the prompts' keys and values in their own types, and return them."""
        self.lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states, value_states
        hand_out(key_states, self.cached)
        return key_states, value_states
