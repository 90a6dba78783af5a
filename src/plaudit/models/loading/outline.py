"""Sends a loaded model to another process without its weights: everything except the values of the parameters.

The receiver gets the same objects with empty parameters on torch's ``meta`` device, which need no memory. Buffers, such
as the frequencies of rotary embeddings, keep their values, because no file may hold them.
"""

import io
import pickle
from typing import Any

import torch
from torch import nn

from plaudit.models.acceleration.tree_attention import register_tree_attention


def outline_of(loaded: object) -> bytes:
    """Return a model, or anything that holds models and can be pickled, without the values of its parameters."""
    stream = io.BytesIO()
    _OutlinePickler(stream).dump(loaded)
    return stream.getvalue()


def from_outline(outline: bytes) -> Any:
    """Return what ``outline_of`` received, with empty parameters. Tied parameters are tied again."""
    from transformers.dynamic_module_utils import init_hf_modules

    init_hf_modules()  # code from a model's folder is imported from transformers' cache
    register_tree_attention()
    return _OutlineUnpickler(io.BytesIO(outline)).load()


class _OutlinePickler(pickle.Pickler):
    """Replaces each parameter by its number, shape and type."""

    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.numbers: dict[nn.Parameter, int] = {}

    def persistent_id(self, value: Any) -> tuple[int, torch.Size, torch.dtype, bool] | None:
        if not isinstance(value, nn.Parameter):
            return None
        return self.numbers.setdefault(value, len(self.numbers)), value.shape, value.dtype, value.requires_grad


class _OutlineUnpickler(pickle.Unpickler):
    def __init__(self, stream: io.BytesIO) -> None:
        super().__init__(stream)
        self.parameters: dict[int, nn.Parameter] = {}

    def persistent_load(self, described: Any) -> nn.Parameter:
        number, shape, dtype, requires_grad = described
        if number not in self.parameters:
            self.parameters[number] = nn.Parameter(torch.empty(shape, dtype=dtype, device="meta"), requires_grad)
        return self.parameters[number]
