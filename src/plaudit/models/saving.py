"""Saves models as ordinary transformers folders, which load without Plaudit."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from plaudit.errors import PlauditError
from plaudit.models.adapters.folder import save_adapter
from plaudit.models.adapters.lora import adapter_of, merged_tensor
from plaudit.models.quiet import quiet_transformers
from plaudit.models.trunk import unwrapped
from plaudit.permissions import follow_umask

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a transformers folder with tokenizer; the active adapter is merged and also saved in ``adapter/``.

    The model does not change. Merging into a quantised base would lose precision: then the folder is the adapter
    itself, which transformers loads together with its base.
    """
    with quiet_transformers():
        if not hasattr(model, "merge_and_unload"):
            model.save_pretrained(folder, state_dict=_weights(model))
        elif getattr(unwrapped(model), "is_quantized", False):
            save_adapter(model, folder)
        else:
            selected: list[str] = model.active_adapters
            model.save_pretrained(folder / "adapter", selected_adapters=selected, state_dict=_weights(model))
            unwrapped(model).save_pretrained(folder, state_dict=dict(saved_weights(model)))
        tokenizer.save_pretrained(folder)
    follow_umask(folder)


def saved_weights(model: "PreTrainedModel | PeftModel") -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of every weight that ``save_model`` would write, one at a time, without changing the model.

    A tensor without an adapter is not copied: it is the model's own memory.

    Raises:
        PlauditError: the model has adapters on a quantised base; merging them would lose precision.
    """
    inner = unwrapped(model)
    if inner is not model and getattr(inner, "is_quantized", False):
        raise PlauditError("adapters on a quantised base cannot be merged for an engine; remove model.quantization")
    seen: set[int] = set()
    for name, tensor in _weights(inner).items():
        if id(tensor) in seen or adapter_of(name) is not None or ".original_module." in name:
            continue
        name = re.sub(r"\.modules_to_save\.[^.]+\.", ".", name)  # a classifier's head
        seen.add(id(tensor))  # tied weights are saved once
        layer, _, kind = name.partition(".base_layer.")
        if kind:
            yield f"{layer}.{kind}", merged_tensor(inner.get_submodule(layer), kind)
        else:
            yield name, tensor.detach()


def _weights(model: nn.Module) -> dict[str, Tensor]:
    """Return what ``model.state_dict()`` does, without its hooks, which would split sharded weights again."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in model.named_modules(remove_duplicate=False):
        buffers = {name: buffer for name, buffer in module.named_buffers(recurse=False) if _is_saved(module, name)}
        own = dict(module.named_parameters(recurse=False, remove_duplicate=False)) | buffers
        tensors |= {f"{prefix}.{name}" if prefix else name: tensor for name, tensor in own.items()}
    return tensors


def _is_saved(module: nn.Module, buffer: str) -> bool:
    return buffer not in module._non_persistent_buffers_set
