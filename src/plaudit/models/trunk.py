"""The trunk of any transformers model: tokens in, hidden states out, heads left to the caller."""

import inspect
from functools import cache
from typing import Any

from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.acceleration.last_mlp import mlp_only_at
from plaudit.models.acceleration.tree_attention import mark


def unwrapped(model: nn.Module) -> Any:
    """Return the transformers model inside a peft model; adapters stay in place, because they live in its layers."""
    get_base_model: Any = getattr(model, "get_base_model", None)
    return model if get_base_model is None else get_base_model()


def trunk_of(model: nn.Module) -> Any:
    """Return the module that computes hidden states, without any head."""
    return unwrapped(model).base_model


def recompute_activations(model: nn.Module) -> None:
    """Let the layers compute their activations again in the backward pass instead of holding them in memory."""
    inner = unwrapped(model)
    # The oldest transformers that we take know the second name alone, the coming ones the first alone.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable()


@cache
def accepted_arguments(model_class: Any) -> frozenset[str]:
    """Return the argument names of a model class's forward method."""
    return frozenset(inspect.signature(model_class.forward).parameters)


def hidden_states(model: nn.Module, batch: Batch, positions: Tensor) -> Tensor:
    """Return the trunk's last hidden states at flat ``positions`` [n] of [rows x length], [n, hidden]."""
    trunk = trunk_of(model)
    arguments: dict[str, Any] = {"input_ids": batch.input_ids, "attention_mask": mark(batch)}
    accepted = accepted_arguments(trunk.__class__)
    if "position_ids" in accepted:
        arguments["position_ids"] = batch.position_ids
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    # Positions repeat: the prompt's last token stands in front of each of its responses.
    with mlp_only_at(trunk, positions.unique()):
        states: Tensor = trunk(**arguments).last_hidden_state.flatten(0, 1)
    return states[positions]
