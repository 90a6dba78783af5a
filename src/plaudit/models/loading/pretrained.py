"""Creates transformers models from a configuration: pretrained or with random weights, quantised or not."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError, one_line
from plaudit.memory import is_out_of_memory

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")


def fresh_model(config: ModelConfig, auto_class: Any, tokenizer: Any, extra: dict[str, Any]) -> "PreTrainedModel":
    """Return a model on the CPU with random weights from torch's global generator.

    ``auto_class`` is one of transformers' AutoModel classes; ``extra`` adds fields to the model's configuration.
    """
    from transformers import AutoConfig

    assert config.fresh is not None
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    options = special | {"vocab_size": len(tokenizer)} | config.fresh.options | extra
    model_config = or_explain(
        f"model.fresh ({config.fresh.architecture})", AutoConfig.for_model, config.fresh.architecture, **options
    )
    _set_dropout(model_config, config.dropout)
    model: PreTrainedModel = auto_class.from_config(model_config, dtype=getattr(torch, config.dtype))
    return model


def pretrained_model(
    config: ModelConfig, auto_class: Any, device: torch.device, extra: dict[str, Any]
) -> "PreTrainedModel":
    """Return the model that ``config.path`` names, on ``device`` if it is quantised and on the CPU otherwise."""
    from transformers import AutoConfig

    model_config = load_from(f"model {config.path}", AutoConfig.from_pretrained, config.path, **extra)
    if model_config.is_encoder_decoder:
        raise PlauditError(f"{config.path}: encoder-decoder models are not supported; choose a causal language model")
    _set_dropout(model_config, config.dropout)
    options = {"config": model_config} | weight_options(config, device)
    model: PreTrainedModel = load_from(f"model {config.path}", auto_class.from_pretrained, config.path, **options)
    return model


def weight_options(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Return the options of ``from_pretrained`` for the type of the weights and their quantisation on ``device``."""
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype)}
    if config.quantization is not None:
        from transformers import BitsAndBytesConfig

        bits = {"load_in_4bit": True} if config.quantization == "4bit" else {"load_in_8bit": True}
        options |= {"quantization_config": BitsAndBytesConfig(**bits), "device_map": {"": device}}
    return options


def _set_dropout(model_config: Any, rate: float) -> None:
    for name, value in list(vars(model_config).items()):
        if ("dropout" in name or "pdrop" in name) and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(model_config, name, rate)


def load_from(what: str, load: Callable[..., Result], path: str | None, **options: Any) -> Result:
    """Call ``load`` with a folder or a hub name. Raises PlauditError, which says what a folder lacks."""
    try:
        return or_explain(what, load, path, **options)
    except PlauditError as fault:
        if missing := _what_is_missing(str(path), what.startswith("tokenizer")):
            raise PlauditError(f"cannot load {what}: {missing}") from fault
        raise


def _what_is_missing(path: str, is_tokenizer: bool) -> str | None:
    """Return what a folder lacks, with the remedy; None if it lacks nothing, or if ``path`` may be a hub name."""
    folder = Path(path)
    if not folder.exists():
        if path.startswith("~"):
            return "no such folder; ~ is not expanded, write the whole path"
        # A hub name has at most one slash. A path below an existing folder means a folder.
        is_hub_name = not path.startswith((".", "/")) and (path.count("/") == 0 or _may_have_owner(folder))
        return None if is_hub_name else "no such folder; give an existing folder or a hub name"
    names = ["config.json", "adapter_config.json", *["tokenizer.json", "tokenizer_config.json"] * is_tokenizer]
    if any((folder / name).exists() for name in names):
        return None
    inside = [*sorted(folder.glob("model/*config.json")), *sorted(folder.glob("*/model/*config.json"))]
    return f"no config.json here; give {inside[0].parent if inside else 'the folder of a model, or a hub name'}"


def _may_have_owner(name: Path) -> bool:
    return len(name.parts) == 2 and not name.parent.is_dir()


def or_explain(what: str, load: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Call ``load``; it raises OSError, ValueError, KeyError or TypeError for bad input.

    Raises PlauditError with ``what`` and the text of the exception on one line. Running out of memory is re-raised
    unchanged.
    """
    try:
        return load(*arguments, **options)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        if is_out_of_memory(fault):
            raise
        raise PlauditError(f"cannot load {what}: {one_line(fault)}") from fault
