"""The trunk of any transformers model: tokens in, hidden states out, heads left to the caller."""

import inspect
from functools import cache
from typing import Any

from torch import Tensor, nn

from plaudit.batching.batches import Batch


def unwrapped(model: nn.Module) -> Any:
    """Return the transformers model inside a peft model; adapters stay in place, because they live in its layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def trunk_of(model: nn.Module) -> Any:
    """Return the module that computes hidden states, without any head."""
    return unwrapped(model).base_model


@cache
def accepted_arguments(forward_owner: type) -> frozenset[str]:
    """Return the argument names of a model class's forward method."""
    return frozenset(inspect.signature(forward_owner.forward).parameters)  # type: ignore[attr-defined]


def hidden_states(model: nn.Module, batch: Batch) -> Tensor:
    """Return the trunk's last hidden states, flattened to [rows x length, hidden]."""
    trunk = trunk_of(model)
    arguments: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
    accepted = accepted_arguments(type(trunk))
    if "position_ids" in accepted:
        arguments["position_ids"] = batch.position_ids
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    return trunk(**arguments).last_hidden_state.flatten(0, 1)
