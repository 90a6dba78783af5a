"""The weights of linear layers as products want them, for as long as weights do not change.

Of weights that do not learn, and in inference mode of all, autocast remembers no cast and casts them again at every
call. And oneDNN's products in bfloat16 on a CPU want weights in an order of their own, into which they would be brought
at every call, too. Here both happens once. The numbers stay the same.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def prepared_weights(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Let linear layers compute with copies of their weights, cast and in order; afterwards with their own.

    A weight that an embedding shares stays as it is for the embedding.
    """
    autocast = torch.is_autocast_enabled(device.type)
    with ExitStack() as undone:
        for layer in filter(_is_linear, model.modules()):
            own = _weight(layer).dtype
            dtype = torch.get_autocast_dtype(device.type) if autocast else own
            if _takes_reordered(device, dtype):
                undone.callback(_reorder(layer, dtype))
            elif dtype != own:
                undone.callback(_cast(layer, dtype))
        yield


def _is_linear(module: nn.Module) -> bool:
    from transformers.pytorch_utils import Conv1D

    if type(module) not in (nn.Linear, Conv1D) or "forward" in vars(module):
        return False  # someone else's forward, such as a hook that moves weights between devices, must see every call
    return _weight(module).dtype in (torch.float32, torch.bfloat16, torch.float16)  # autocast leaves float64 alone


def _takes_reordered(device: torch.device, dtype: torch.dtype) -> bool:
    if device.type != "cpu" or dtype != torch.bfloat16 or not torch.backends.mkldnn.is_available():
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _cast(layer: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """Give a layer cast parameters; return what gives it back its own."""
    own = dict(layer.named_parameters(recurse=False))
    for name, parameter in own.items():
        setattr(layer, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))

    def undo() -> None:
        for name, parameter in own.items():
            setattr(layer, name, parameter)

    return undo


def _reorder(layer: nn.Module, dtype: torch.dtype) -> Callable[[], None]:
    """Give a layer a forward pass over its reordered weights; return what takes it away."""
    weight = torch.ops.mkldnn._reorder_linear_weight(_weight(layer).detach().to(dtype).contiguous())
    bias = None if layer.bias is None else layer.bias.detach().to(dtype)  # type: ignore[operator]

    def forward(states: Tensor) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise(states.to(dtype), weight, bias, "none", [], "")
        return product

    layer.forward = forward
    return lambda: delattr(layer, "forward")


def _weight(layer: nn.Module) -> Tensor:
    """Return the weight [outputs, inputs]; a Conv1D, GPT-2's linear layer, holds it transposed."""
    weight: Tensor = layer.get_parameter("weight")
    return weight if isinstance(layer, nn.Linear) else weight.t()
