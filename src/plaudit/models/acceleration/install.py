"""Makes a model faster without changing its results.

``install`` tests what a model supports, installs it, and records what was chosen and why.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from plaudit.batching.layouts.base import Layout
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.models.acceleration.prepared_weights import linear_layers
from plaudit.models.acceleration.trial import decoding_fault, last_mlp_fault, layout_fault, tree_attention_fault
from plaudit.models.acceleration.varlen_attention import DEVICES, TYPES, kernel_fault
from plaudit.models.trunk import unwrapped
from plaudit.plugins import check_methods
from plaudit.registries.layouts import LAYOUTS

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel

TREES, KERNEL, LAST_MLP = "tree attention", "kernel for packed trees", "last-MLP shortcut"
DECODING, WEIGHTS = "compiled decoding", "prepared weights"


@dataclass(frozen=True)
class Choice:
    """An acceleration that was tested on a model. ``fault``: the reason why it is not used; None if it is used."""

    name: str
    fault: str | None

    def __str__(self) -> str:
        return self.name if self.fault is None else f"no {self.name} ({self.fault})"


@dataclass(frozen=True)
class Acceleration:
    """The layout of a model's batches, why it was chosen, and every other acceleration that was tested."""

    layout: Layout
    layout_reason: str | None
    choices: tuple[Choice, ...]

    @property
    def takes_dense_masks(self) -> bool:
        """Whether the model is known to apply a four-dimensional mask unchanged."""
        return self.layout.needs_tree_mask

    def uses(self, name: str) -> bool:
        """Whether the model uses the acceleration of this name: ``TREES``, ``DECODING`` and so on."""
        return any(choice.name == name and choice.fault is None for choice in self.choices)

    def __str__(self) -> str:
        reason = "" if self.layout_reason is None else f" ({self.layout_reason})"
        return ", ".join([f"{self.layout.name} batches{reason}", *map(str, self.choices)])


def install(model: "nn.Module", layout: str = "auto", generates: bool = False) -> Acceleration:
    """Test what a model supports, install it, and return the record.

    Args:
        model: a transformers model, or peft's wrapper around one. Its weights do not change; its results change only by
            rounding.
        layout: name of a layout in ``LAYOUTS``; ``auto`` is the packed one. If it is not exact, batches are padded.
        generates: whether responses are generated with the model.

    Raises:
        PlauditError: no layout has this name, or it lacks a method of ``Layout``.
    """
    inner: PreTrainedModel = unwrapped(model)
    chosen, reason = _layout(inner, layout)
    choices = []
    if chosen.needs_tree_mask:
        choices.append(Choice(TREES, tree_attention_fault(inner, chosen)))
        if choices[0].fault is None and inner.device.type in DEVICES:
            choices.append(Choice(KERNEL, _kernel_fault(inner)))
    choices.append(Choice(LAST_MLP, last_mlp_fault(inner)))
    if generates and inner.device.type == "cpu":
        by_trees = bool(choices) and choices[0] == Choice(TREES, None)
        choices.append(Choice(DECODING, decoding_fault(inner) if by_trees else f"it needs {TREES}"))
    if not linear_layers(inner):
        choices.append(Choice(WEIGHTS, "the model has no linear layers that autocast would cast"))
    return Acceleration(chosen, reason, tuple(choices))


def _layout(model: "PreTrainedModel", wanted: str) -> tuple[Layout, str | None]:
    layout = PACKED if wanted == "auto" else LAYOUTS[wanted]
    check_methods(layout, Layout, f"layout {wanted}")
    fault = layout_fault(model, layout) if layout is not PADDED else None
    if fault is None:
        return layout, None if layout is PACKED else "as configured"
    return PADDED, fault if wanted == "auto" else f"{fault}; the configured layout {wanted} cannot be used"


def _kernel_fault(model: "PreTrainedModel") -> str | None:
    """Test the kernel in the model's type, or in bfloat16 if training would run under autocast."""
    config: Any = model.config.get_text_config()
    heads = config.num_attention_heads
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    dtype = model.dtype if model.dtype in TYPES else torch.bfloat16
    return kernel_fault(model.device, dtype, heads, key_heads, size)
