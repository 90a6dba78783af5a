"""The forward pass of a trunk, from a batch to hidden states; the caller applies the heads."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.acceleration.context import ForwardContext, current_context, forward_context
from plaudit.models.acceleration.tree_attention import attends_by_trees, tree_layout
from plaudit.models.trunk import accepted_arguments, trunk_of, unwrapped


def hidden_states(model: nn.Module, batch: Batch, positions: Tensor) -> Tensor:
    """Return the trunk's last hidden states [n, hidden] at flat ``positions`` [n] in [rows x length]."""
    trunk = trunk_of(model)
    trees = tree_layout(batch) if attends_by_trees(trunk) else None
    arguments: dict[str, Any] = batch.layout.model_inputs(batch, needs_mask=trees is None)
    if trees is not None:
        arguments["attention_mask"] = trees.unread_mask()
    accepted = accepted_arguments(trunk.__class__)
    if "position_ids" not in accepted:
        arguments.pop("position_ids", None)
    if "use_cache" in accepted:
        arguments["use_cache"] = False
    # With recomputed activations the last MLP must compute all positions, in both passes alike.
    with forward_context(ForwardContext(trees, read=None if _recomputes(trunk) else positions)):
        states: Tensor = trunk(**arguments).last_hidden_state.flatten(0, 1)
    return states[positions]


def recompute_activations(model: nn.Module) -> None:
    """Recompute the layers' activations in the backward pass instead of keeping them in memory.

    The recomputation uses the forward context of the original pass, in whichever thread the backward pass runs.
    """

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), forward_context(current_context())

    inner = unwrapped(model)
    # The oldest supported transformers has only the second name, future versions only the first.
    enable = getattr(inner, "activation_checkpointing_enable", None) or inner.gradient_checkpointing_enable
    enable({"use_reentrant": False, "context_fn": contexts})


def _recomputes(trunk: nn.Module) -> bool:
    return trunk.training and any(getattr(part, "gradient_checkpointing", False) for part in trunk.modules())
