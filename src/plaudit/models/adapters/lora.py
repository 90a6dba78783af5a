"""Low-rank adapters on a model, and the model without them."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.config.schema import LoraConfig
from plaudit.errors import PlauditError, one_line
from plaudit.models.adapters.targets import check_targets

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


def with_adapter(model: "PreTrainedModel", config: LoraConfig, task: str, name: str = "default") -> "PeftModel":
    """Freeze a model and add low-rank adapters; a classifier's head stays trainable.

    Raises PlauditError if the model lacks a target, or peft refuses one.
    """
    import peft

    check_targets(model, config.targets)
    lora = peft.LoraConfig(
        task_type=task,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.targets,
        modules_to_save=["score"] if task == "SEQ_CLS" else None,
    )
    try:
        return peft.get_peft_model(model, lora, adapter_name=name)
    except (ValueError, TypeError, NotImplementedError) as fault:
        raise PlauditError(
            f"lora.targets: {_in_words(config.targets)}: {one_line(fault)}; choose other modules"
        ) from fault


def _in_words(targets: str | list[str]) -> str:
    return targets if isinstance(targets, str) else ", ".join(targets)


CONTINUED = "continues_saved_adapter"


def base_is_start(model: Any) -> bool:
    """Whether training starts from the model without its adapters, because they are new."""
    return hasattr(model, "disable_adapter") and not getattr(model, CONTINUED, False)


@contextmanager
def adapters_off(model: "PeftModel") -> Iterator[None]:
    """Compute with the base model only; trainable parameters stay trainable afterwards."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    with model.disable_adapter():
        yield
    for parameter in learning:
        parameter.requires_grad_(True)


def merged_tensor(layer: Any, kind: str) -> Tensor:
    """Return an adapted layer's ``weight`` with its active adapters merged, as peft merges them, or its ``bias``."""
    merged: Tensor = getattr(layer.get_base_layer(), kind).detach()
    if kind == "weight":
        merged = merged.clone()
        with torch.no_grad():
            for adapter in layer.active_adapters:
                merged += layer.get_delta_weight(adapter)
    return merged


def adapter_of(parameter_name: str) -> str | None:
    """Return the adapter that a parameter belongs to: NAME in ``….v_proj.lora_A.NAME.weight``; None for others."""
    found = re.search(r"\.lora_\w+\.([^.]+)(\.weight)?$", parameter_name)
    return found[1] if found else None
