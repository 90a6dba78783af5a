"""Saves models as ordinary transformers folders, which load without Plaudit."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

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

    Merging into a quantised base would lose precision: then the folder is the adapter itself, which transformers loads
    together with its base. Merging changes the model in place, so a stage must save last.
    """
    with quiet_transformers():
        if not hasattr(model, "merge_and_unload"):
            model.save_pretrained(folder)
        elif getattr(unwrapped(model), "is_quantized", False):
            save_adapter(model, folder)
        else:
            model.save_pretrained(folder / "adapter", selected_adapters=model.active_adapters)
            model.merge_and_unload().save_pretrained(folder)
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
    for name, tensor in inner.state_dict(keep_vars=True).items():
        if id(tensor) in seen or adapter_of(name) is not None:
            continue
        seen.add(id(tensor))  # tied weights are saved once
        layer, _, kind = name.partition(".base_layer.")
        if kind:
            yield f"{layer}.{kind}", merged_tensor(inner.get_submodule(layer), kind)
        else:
            yield name, tensor.detach()
