"""Folders that contain only an adapter and the name of its base model, as saved for quantised bases."""

import json
from pathlib import Path
from typing import Any

from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.trunk import unwrapped

ADAPTER_FILE = "adapter_config.json"
BASE_FILE = "base_model.json"
"""How the base was quantised: the adapter was trained on the rounded weights and needs the same weights again."""


def save_adapter(model: Any, folder: Path) -> None:
    """Write the active adapter, and how its base is quantised."""
    model.save_pretrained(folder, selected_adapters=model.active_adapters)
    base = {"quantization": quantization_of(unwrapped(model))}
    (folder / BASE_FILE).write_text(json.dumps(base) + "\n")


def quantization_of(model: Any) -> str | None:
    """Return a model's quantisation as the configuration names it: ``4bit``, ``8bit`` or None."""
    quantized = getattr(model.config, "quantization_config", None)
    if quantized is None:
        return None
    return "4bit" if quantized.load_in_4bit else "8bit"


def adapter_task(path: str | None) -> str | None:
    """Return peft's name for an adapter folder's task (CAUSAL_LM, SEQ_CLS); None if the folder is not an adapter."""
    file = Path(path or "") / ADAPTER_FILE
    return str(json.loads(file.read_text())["task_type"]) if path and file.exists() else None


def base_of_adapter(config: ModelConfig) -> ModelConfig:
    """Return the configuration of the base of the adapter folder ``config.path``, with the folder's tokenizer.

    Raises PlauditError if the configuration asks for new adapters, because the saved one cannot be merged into a
    quantised base.
    """
    folder = Path(config.path or "")
    if config.lora is not None:
        raise PlauditError(
            f"{folder}: an adapter on a quantised base cannot be trained further; start from {_base_name(folder)}"
        )
    saved = folder / BASE_FILE
    quantization = json.loads(saved.read_text())["quantization"] if saved.exists() else config.quantization
    tokenizer = config.tokenizer or str(folder)
    return config.model_copy(update={"path": _base_name(folder), "quantization": quantization, "tokenizer": tokenizer})


def _base_name(folder: Path) -> str:
    return str(json.loads((folder / ADAPTER_FILE).read_text())["base_model_name_or_path"])


def with_saved_adapter(model: Any, folder: str) -> Any:
    """Put the folder's adapter on its base, frozen."""
    import peft

    return peft.PeftModel.from_pretrained(model, folder)
