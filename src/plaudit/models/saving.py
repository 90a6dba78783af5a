"""Saved models are ordinary: transformers loads them without Plaudit."""

from pathlib import Path
from typing import TYPE_CHECKING

from plaudit.models.adapters.folder import save_adapter
from plaudit.models.trunk import unwrapped
from plaudit.permissions import follow_umask

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_model(model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a transformers folder with tokenizer; the active adapter is merged, and kept in ``adapter/`` too.

    A quantised base cannot take the merge without loss: then the folder is the adapter itself, which transformers
    loads together with its base. Merging uses the model up: it is the last thing a stage does.
    """
    if hasattr(model, "merge_and_unload"):
        if getattr(unwrapped(model), "is_quantized", False):
            save_adapter(model, folder)
        else:
            model.save_pretrained(folder / "adapter", selected_adapters=model.active_adapters)
            model.merge_and_unload().save_pretrained(folder)
    else:
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    follow_umask(folder)
