"""Saves models as ordinary transformers folders, which load without Plaudit.

Every folder is loaded again and its output is compared with that of the model in memory.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from plaudit.data.chat_templates import end_of_turn_ids
from plaudit.data.prompt_record import write_record
from plaudit.errors import PlauditError, one_line
from plaudit.log import quiet_libraries
from plaudit.models.adapters.folder import save_adapter
from plaudit.models.adapters.lora import adapter_of, merged_tensor
from plaudit.models.saved_outputs import Outputs, check_saved_adapter, check_saved_model, outputs_in_memory
from plaudit.models.trunk import unwrapped
from plaudit.permissions import follow_umask

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

logger = logging.getLogger(__name__)


def save_model(model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase", folder: Path) -> None:
    """Write a transformers folder with tokenizer; the active adapter is merged and also saved in ``adapter/``.

    The model's weights do not change. Merging into a quantized base would lose precision: then the folder is the
    adapter itself, which transformers loads together with its base.

    Raises PlauditError if the saved folder computes something else than the model.
    """
    write_model(model, tokenizer, folder, outputs_in_memory(model))


def saves_only_adapter(model: "PreTrainedModel | PeftModel") -> bool:
    """Whether ``save_model`` writes an adapter without its base, which is quantized."""
    inner = unwrapped(model)
    return inner is not model and bool(getattr(inner, "is_quantized", False))


def write_model(
    model: "PreTrainedModel | PeftModel",
    tokenizer: "PreTrainedTokenizerBase",
    folder: Path,
    expected: Outputs,
    changes: Mapping[str, Tensor] = MappingProxyType({}),
) -> None:
    """Save as ``save_model`` does, with some weights replaced by ``changes``; the folder must compute ``expected``."""
    inner = unwrapped(model)
    set_special_tokens(inner, tokenizer)
    is_adapter = saves_only_adapter(model)
    with quiet_libraries():
        if is_adapter:
            save_adapter(model, folder)
        elif inner is model:
            inner.save_pretrained(folder, state_dict=_weights(inner) | dict(changes))
        else:
            wrapper: Any = model
            selected: list[str] = wrapper.active_adapters
            wrapper.save_pretrained(folder / "adapter", selected_adapters=selected, state_dict=_weights(model))
            with _untied_if_adapted(inner):
                inner.save_pretrained(folder, state_dict=dict(saved_weights(model)) | dict(changes))
        tokenizer.save_pretrained(folder)
    write_record(tokenizer, folder)
    follow_umask(folder)
    if is_adapter:
        check_saved_adapter(model, folder)
    else:
        check_saved_model(inner, folder, expected)


@contextmanager
def _untied_if_adapted(model: "PreTrainedModel") -> Iterator[None]:
    """Set in the configuration that embeddings and output head are not tied if only one of them has an adapter."""
    configs = {id(config): config for config in (model.config, model.config.get_text_config())}.values()
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    adapted = [layer is not None and hasattr(layer, "get_base_layer") for layer in layers]
    before = [config.tie_word_embeddings for config in configs]
    for config in configs if any(adapted) and layers[1] is not None else ():
        config.tie_word_embeddings = False
    yield
    for config, tied in zip(configs, before, strict=True):
        config.tie_word_embeddings = tied


def set_special_tokens(model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Write the tokenizer's special tokens into the model's configurations, so that ``generate`` stops at its end.

    Several end tokens are kept if the tokenizer's is one of them. Generation also ends at the end of a turn in the chat
    template.
    """
    generation: Any = getattr(model, "generation_config", None)
    for config in (model.config, model.config.get_text_config(), *([] if generation is None else [generation])):
        config.pad_token_id = tokenizer.pad_token_id
        if tokenizer.bos_token_id is not None:
            config.bos_token_id = tokenizer.bos_token_id
        ends = config.eos_token_id
        if not (isinstance(ends, list | tuple) and tokenizer.eos_token_id in ends):
            config.eos_token_id = tokenizer.eos_token_id
    if generation is not None:
        ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
        if more := sorted(end_of_turn_ids(tokenizer) - set(ends)):
            generation.eos_token_id = [*ends, *more]
        model.generation_config = _valid(generation)


def _valid(generation: Any) -> Any:
    """Return generation settings that transformers saves: with only the special tokens if the others contradict."""
    try:
        generation.validate(strict=True)
    except ValueError as fault:
        logger.warning("generation_config.json: only special tokens are saved, because of: %s", one_line(fault))
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        return type(generation)(**{name: getattr(generation, name) for name in names})
    return generation


class SavedWeights:
    """What ``saved_weights`` yields, as often as one iterates."""

    def __init__(self, model: "PreTrainedModel | PeftModel") -> None:
        self._model = model

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return saved_weights(self._model)


def saved_weights(model: "PreTrainedModel | PeftModel") -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of every weight that ``save_model`` would write, one at a time, without changing the model.

    A tensor without an adapter is not copied: it is the model's own memory.

    Raises:
        PlauditError: the model has adapters on a quantized base; merging them would lose precision.
    """
    inner = unwrapped(model)
    if inner is not model and getattr(inner, "is_quantized", False):
        raise PlauditError("adapters on a quantized base cannot be merged for an engine; remove model.quantization")
    seen: set[int] = set()
    for name, tensor in _weights(inner).items():
        if adapter_of(name) is not None or ".original_module." in name:
            continue
        name = re.sub(r"\.modules_to_save\.[^.]+\.", ".", name)  # a classifier's head
        layer, _, kind = name.partition(".base_layer.")
        if kind:  # tied weights with different adapters are no longer tied
            yield f"{layer}.{kind}", merged_tensor(inner.get_submodule(layer), kind)
        elif id(tensor) not in seen:
            seen.add(id(tensor))  # tied weights are saved once
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
