"""The weights of linear layers in the type that autocast computes with, for as long as weights do not change.

In inference mode autocast remembers no cast and casts every weight again at every token. With weights that have the
type already there is nothing to cast, and every number stays the same.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def weights_cast_once(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Give linear layers cast copies of their weights while autocast is on; afterwards they have their own again.

    A weight that an embedding shares stays as it is for the embedding.
    """
    if not torch.is_autocast_enabled(device.type):
        yield
        return
    dtype = torch.get_autocast_dtype(device.type)
    own = [
        (module, name, parameter)
        for module in model.modules()
        if isinstance(module, nn.Linear)
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.dtype == torch.float32
    ]
    try:
        for module, name, parameter in own:
            setattr(module, name, nn.Parameter(parameter.detach().to(dtype), requires_grad=False))
        yield
    finally:
        for module, name, parameter in own:
            setattr(module, name, parameter)
