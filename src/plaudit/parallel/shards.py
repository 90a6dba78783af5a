"""Modules that torch's ``fully_shard`` has sharded, and their parameters."""

from typing import Any

from torch import Tensor, nn

from plaudit.errors import PlauditError


def roots_of(module: nn.Module) -> list[nn.Module]:
    """Return the modules whose passes are called from outside."""
    return list(module.children()) if isinstance(module, nn.ModuleDict | nn.ModuleList) else [module]


def units_of(module: nn.Module) -> list[Any]:
    """Return the modules that gather their weights together: the root and its blocks."""
    from torch.distributed.fsdp import FSDPModule

    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def shards_of(module: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Return every sharded parameter with the module that holds it and its name there; shared ones repeat."""
    return [
        (part, name, parameter)
        for part in module.modules()
        for name, parameter in part.named_parameters(recurse=False)
        if type(parameter) is not nn.Parameter
    ]


def local_part(tensor: Any) -> Tensor:
    """Return this process's part of a distributed tensor; a plain tensor is whole in every process."""
    from torch.distributed.tensor import DTensor

    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def distributed_like(own: Tensor, parameter: Any) -> Tensor:
    """Return the distributed tensor of which this process holds the rows ``own``, split like ``parameter``."""
    from torch.distributed.tensor import DTensor

    return DTensor.from_local(
        own.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.shape,
        stride=parameter.stride(),
    )


def check_weights(root: nn.Module) -> None:
    """Raise PlauditError if the weights cannot be sharded."""
    if any(not parameter.is_floating_point() for parameter in root.parameters()):
        raise PlauditError(
            "distributed: fsdp2 cannot shard quantized weights; remove model.quantization, or use "
            "distributed=replicated"
        )
    types = {parameter.dtype for parameter in root.parameters() if parameter.requires_grad}
    if len(types) > 1:
        names = sorted(str(dtype).removeprefix("torch.") for dtype in types)
        raise PlauditError(
            f"distributed: fsdp2 needs weights of one type, but this model trains {' and '.join(names)}; set "
            "model.dtype=float32 with precision=bf16, or use distributed=replicated"
        )
