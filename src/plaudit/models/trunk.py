"""Access to the parts of a transformers model, with or without adapters."""

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unwrapped(model: nn.Module) -> "PreTrainedModel":
    """Return the transformers model inside a peft model; its layers still contain the adapters."""
    get_base_model: Any = getattr(model, "get_base_model", None)
    return model if get_base_model is None else get_base_model()


def trunk_of(model: nn.Module) -> "PreTrainedModel":
    """Return the module that computes hidden states, without any head."""
    return unwrapped(model).base_model


def blocks_of(module: nn.Module) -> list[nn.Module]:
    """Return a model's transformer blocks: the entries of the first list of modules in it, if there is one."""
    lists = (part for part in module.modules() if isinstance(part, nn.ModuleList) and len(part))
    return list(next(lists, nn.ModuleList()))


@cache
def accepted_arguments(model_class: Any) -> frozenset[str]:
    """Return the argument names of a model class's forward method."""
    return frozenset(inspect.signature(model_class.forward).parameters)
