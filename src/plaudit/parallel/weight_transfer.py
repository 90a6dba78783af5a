"""Moves weights from the main process into the memory of those that train with them, one tensor after the other."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def take_weights(module: nn.Module) -> dict[str, Tensor]:
    """Replace every parameter of a module by an empty one on ``meta``, and return the weights by name.

    Tied parameters stay tied, and appear once.
    """
    weights = {name: parameter.detach() for name, parameter in module.named_parameters()}
    empty: dict[nn.Parameter, nn.Parameter] = {}
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False, remove_duplicate=False)):
            if parameter not in empty:
                without_values = torch.empty(parameter.shape, dtype=parameter.dtype, device="meta")
                empty[parameter] = nn.Parameter(without_values, parameter.requires_grad)
            part.register_parameter(name, empty[parameter])
    return weights


def give_memory(module: nn.Module, device: torch.device) -> None:
    """Give the parameters of a module memory on ``device``, without values; buffers keep theirs."""
    buffers = [(part, name, buffer) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    module.to_empty(device=device)
    for part, name, buffer in buffers:
        setattr(part, name, buffer.to(device))


def receive_rows(own: Tensor, whole: Tensor | None, shape: Sequence[int], part_of: Sequence[int]) -> None:
    """Fill ``own`` with this process's rows of a tensor of this ``shape``; all processes call this together.

    Args:
        own: the rows of this process: the tensor is split as ``torch.chunk`` does.
        whole: the tensor, on any device, in the main process; None in the others.
        shape: shape of the whole tensor.
        part_of: for each process, the number of the part that it holds.
    """
    parts = max(part_of) + 1
    # Bytes, because not every backend sends every type; parts of equal length, because a scatter needs them.
    length = -(-shape[0] // parts) * own.element_size() * math.prod(shape[1:])
    received = torch.empty(length, dtype=torch.uint8, device=own.device)
    sent = None
    if whole is not None:
        split = [_padded(part, length) for part in _bytes(whole.to(own.device)).split(max(length, 1))]
        split += [torch.zeros_like(received)] * (parts - len(split))
        sent = [split[part] for part in part_of]
    torch.distributed.scatter(received, sent)
    _bytes(own).copy_(received[: own.nbytes])


def receive(own: Tensor, whole: Tensor | None) -> None:
    """Fill ``own`` with a tensor of the main process, where ``whole`` is that tensor; it is None in the others."""
    if whole is not None:
        own.copy_(whole)
    torch.distributed.broadcast(_bytes(own), src=0)


def whole_on_cpu(shards: Sequence[Any], is_main: bool) -> dict[Any, nn.Parameter]:
    """Gather sharded parameters, one after the other; return those of the main process, on the CPU."""
    whole: dict[Any, nn.Parameter] = {}
    for shard in dict.fromkeys(shards):
        gathered = shard.detach().full_tensor()
        if is_main:
            whole[shard] = nn.Parameter(gathered.cpu(), shard.requires_grad)
    return whole


@contextmanager
def computing_on_cpu(module: nn.Module, units: Sequence[Any]) -> Iterator[None]:
    """Return a context in which sharded ``units`` exchange nothing in their passes, and buffers are on the CPU."""
    buffers = [(part, name, buffer) for part in module.modules() for name, buffer in part.named_buffers(recurse=False)]
    hooks = [
        (all_hooks, dict(all_hooks)) for unit in units for all_hooks in (unit._forward_pre_hooks, unit._forward_hooks)
    ]
    for unit in units:
        state = unit._get_fsdp_state()
        unit._forward_pre_hooks.pop(state._pre_forward_hook_handle.id)
        unit._forward_hooks.pop(state._post_forward_hook_handle.id)
    for part, name, buffer in buffers:
        setattr(part, name, buffer.cpu())
    try:
        yield
    finally:
        for part, name, buffer in buffers:
            setattr(part, name, buffer)
        for all_hooks, before in hooks:
            all_hooks.clear()
            all_hooks.update(before)


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _padded(part: Tensor, length: int) -> Tensor:
    return torch.nn.functional.pad(part, (0, length - len(part)))
