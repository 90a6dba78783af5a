"""Weights and optimizer state as named tensors, for checkpoints."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that require gradients by name; a parameter that is used twice appears once."""
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


def load_weights(parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]) -> None:
    """Copy into each parameter the tensor of the same name."""
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


NamedParameters = Iterable[tuple[str, torch.nn.Parameter]]


def optimizer_tensors(optimizer: torch.optim.Optimizer, named_parameters: NamedParameters) -> dict[str, Tensor]:
    """Return the optimizer's state under names such as ``exp_avg/layers.0.weight`` (no copies).

    Parameters without a step have no state yet. Settings such as learning rates are not included: they follow from the
    configuration and the step. Raises ``ValueError`` if the optimizer holds a parameter without a name.
    """
    name_of = {id(parameter): name for name, parameter in named_parameters}
    tensors = {}
    for parameter in _parameters(optimizer):
        if id(parameter) not in name_of:
            raise ValueError(f"the optimizer holds a parameter of shape {tuple(parameter.shape)} that has no name")
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"{key}/{name_of[id(parameter)]}"] = value
    return tensors


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, named_parameters: NamedParameters, tensors: Mapping[str, Tensor]
) -> None:
    """Restore exactly what ``optimizer_tensors`` returned; the groups' settings do not change.

    Raises ``ValueError`` if ``tensors`` names a parameter that this optimizer does not hold.
    """
    name_of = {id(parameter): name for name, parameter in named_parameters}
    index_of = {name_of[id(parameter)]: index for index, parameter in enumerate(_parameters(optimizer))}
    state: dict[int, dict[str, Tensor]] = {}
    for path, tensor in tensors.items():
        key, _, name = path.partition("/")
        if name not in index_of:
            raise ValueError(f"the optimizer has no parameter {name}: the checkpoint belongs to another model")
        state.setdefault(index_of[name], {})[key] = tensor.clone()
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _parameters(optimizer: torch.optim.Optimizer) -> list[torch.nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
