"""Casts and reorders the weights of linear layers once, while weights do not change.

Autocast caches casts only for weights that require gradients, and none in inference mode, so frozen weights are cast on
every call. oneDNN likewise reorders bfloat16 weights on every call. This module does both once. Results do not change.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock

import torch
from torch import Tensor, nn

_PREPARED: ContextVar[frozenset[object]] = ContextVar("plaudit_prepared_weights", default=frozenset())
"""The preparations that this thread uses; other threads use the layers' own weights."""

_LOCK = Lock()

Forward = Callable[[Tensor], Tensor]


@contextmanager
def prepared_weights(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the context, let linear layers compute with cast and reordered copies of their weights.

    An embedding that shares a weight is not affected. If another thread has already prepared a layer, this thread
    computes with the layer's own weight.
    """
    preparation = object()
    with _LOCK:
        layers = {layer: forward for layer in linear_layers(model) if (forward := _prepared(layer, device)) is not None}
        for layer, forward in layers.items():
            layer.forward = _Forward(layer, forward, preparation)
    token = _PREPARED.set(_PREPARED.get() | {preparation})
    try:
        yield
    finally:
        _PREPARED.reset(token)
        for layer in layers:
            del layer.forward


class _Forward:
    """A layer's forward pass: with prepared weights inside ``prepared_weights``, otherwise with the layer's own."""

    def __init__(self, layer: nn.Module, prepared: Forward, preparation: object) -> None:
        self.layer, self.prepared, self.preparation = layer, prepared, preparation

    def __call__(self, states: Tensor) -> Tensor:
        if self.preparation in _PREPARED.get():
            return self.prepared(states)
        own: Tensor = type(self.layer).forward(self.layer, states)
        return own


def linear_layers(model: nn.Module) -> list[nn.Module]:
    """Return the layers whose weights can be prepared."""
    return [module for module in model.modules() if _is_linear(module)]


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
        return False  # a replaced forward, such as a hook that moves weights between devices, must see every call
    if type(module.get_parameter("weight")) is not nn.Parameter:
        return False  # a shard, which is whole only during a forward pass
    return _weight(module).dtype in (torch.float32, torch.bfloat16, torch.float16)  # autocast does not cast float64


def _prepared(layer: nn.Module, device: torch.device) -> Forward | None:
    """Return the layer's forward pass with prepared weights; None if there is nothing to prepare."""
    own = _weight(layer).dtype
    dtype = torch.get_autocast_dtype(device.type) if torch.is_autocast_enabled(device.type) else own
    if takes_reordered(device, dtype):
        return _reordered(layer, dtype)
    return None if dtype == own else _cast(layer, dtype)


def takes_reordered(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN multiplies by reordered weights of this type on this device: bfloat16 on some CPUs."""
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cast(layer: nn.Module, dtype: torch.dtype) -> Forward:
    """Return the forward pass of a copy of this layer with cast parameters."""
    twin = copy.copy(layer)
    twin.__dict__["_parameters"] = {
        name: None if parameter is None else nn.Parameter(parameter.detach().to(dtype), requires_grad=False)
        for name, parameter in layer._parameters.items()
    }
    return twin.forward


def _reordered(layer: nn.Module, dtype: torch.dtype) -> Forward:
    """Return a forward pass with reordered weights."""
    weight = torch.ops.mkldnn._reorder_linear_weight(_weight(layer).detach().to(dtype).contiguous())
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)  # type: ignore[operator]

    def forward(states: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(states.to(dtype), weight, bias, "none", [], "")
        return product

    return forward


def _weight(layer: nn.Module) -> Tensor:
    """Return the weight [outputs, inputs]; a Conv1D, GPT-2's linear layer, holds it transposed."""
    weight: Tensor = layer.get_parameter("weight")
    return weight if isinstance(layer, nn.Linear) else weight.t()
