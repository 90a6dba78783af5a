"""Creates transformers models from a configuration: pretrained or with random weights, quantised or not."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from plaudit.config.schema import ModelConfig
from plaudit.config.schema.base import NEEDS_QUANTIZATION
from plaudit.errors import PlauditError, one_line
from plaudit.hub import hub_options, is_hub_name, missing_part
from plaudit.memory import is_out_of_memory
from plaudit.models.quiet import quiet_transformers
from plaudit.packages import missing_package

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
    """Return the options of ``from_pretrained`` for the type of the weights and their quantisation on ``device``.

    Raises PlauditError if the package for quantisation is missing.
    """
    options: dict[str, Any] = {"dtype": getattr(torch, config.dtype)}
    if config.quantization is not None:
        if missing := missing_package(NEEDS_QUANTIZATION["requires"]):
            raise PlauditError(
                f"quantization: {config.quantization} {missing}; install it with: {NEEDS_QUANTIZATION['install']}"
            )
        from transformers import BitsAndBytesConfig

        bits = {"load_in_4bit": True} if config.quantization == "4bit" else {"load_in_8bit": True}
        options |= {"quantization_config": BitsAndBytesConfig(**bits), "device_map": {"": device}}
    return options


def _set_dropout(model_config: Any, rate: float) -> None:
    for name, value in list(vars(model_config).items()):
        if ("dropout" in name or "pdrop" in name) and isinstance(value, int | float) and not isinstance(value, bool):
            setattr(model_config, name, rate)


def load_from(what: str, load: Callable[..., Result], path: str | None, **options: Any) -> Result:
    """Call ``load`` with a folder or a hub name.

    Raises PlauditError like ``or_explain``, or with what is missing. ``what`` begins with "tokenizer" if the folder
    only needs to hold a tokenizer.
    """
    if is_hub_name(str(path)):
        try:
            options = {**hub_options(str(path)), **options}
        except PlauditError as fault:
            raise PlauditError(f"cannot load {what}: {fault}") from fault
    try:
        return or_explain(what, load, path, **options)
    except PlauditError as fault:
        if missing := missing_part(str(path), what.startswith("tokenizer")):
            raise PlauditError(f"cannot load {what}: {missing}") from fault
        raise


def or_explain(what: str, load: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Call ``load``, without the progress bars and advice of transformers.

    Raises PlauditError with ``what`` and the text of the exception on one line. Running out of memory is re-raised
    unchanged.
    """
    from safetensors import SafetensorError

    try:
        with quiet_transformers():
            return load(*arguments, **options)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError) as fault:
        if is_out_of_memory(fault):
            raise
        raise PlauditError(f"cannot load {what}: {one_line(fault)}") from fault
