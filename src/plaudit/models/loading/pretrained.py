"""Creates transformers models from a configuration: pretrained or with random weights, quantized or not."""

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from plaudit.config.schema import ModelConfig
from plaudit.config.schema.base import NEEDS_QUANTIZATION
from plaudit.errors import Interrupted, PlauditError, one_line
from plaudit.hub import NO_TOKENIZER, hub_options, is_hub_name, missing_part
from plaudit.log import quiet_libraries
from plaudit.memory import is_out_of_memory
from plaudit.models.weights.completeness import (
    OUTPUT_HEADS,
    SCORE,
    TIED_HEAD,
    VALUE_HEADS,
    Fit,
    checked_fit,
    known_prefixes,
    refuse_incomplete,
    tied_embeddings,
    without_prefixes,
)
from plaudit.models.weights.files import Shape, read_json, refuse_substitutes, stored_shapes
from plaudit.packages import missing_package

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Result = TypeVar("Result")

logger = logging.getLogger("plaudit.models")
OUT_OF_MEMORY = "out of memory; use a smaller model, quantization or dtype: bfloat16"


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
) -> tuple["PreTrainedModel", bool]:
    """Return the model that ``config.path`` names, and whether its head came from the files.

    The model is on ``device`` if it is quantized and on the CPU otherwise. ``extra`` holds ``num_labels`` for a
    classifier, whose head may be missing from the files of a language model; every other weight must be there.

    Raises PlauditError, with the names, if weights are missing, unused or of other shapes than the configuration says.
    """
    from transformers import AutoConfig

    path = str(config.path)
    what = f"model {path}"
    stored = _checked_files(what, path)
    trust = {"trust_remote_code": config.trust_remote_code}
    model_config = load_from(what, AutoConfig.from_pretrained, path, **extra, **trust)
    refuse_encoder_decoder(path, model_config)
    if extra:
        refuse_labels(path, stored)
    _set_dropout(model_config, config.dropout)
    options = {"config": model_config, **trust} | weight_options(config, device)
    model, fit = load_whole(what, auto_class, path, **options)
    if not extra:
        accepted = fit.without([], VALUE_HEADS)
        refuse_incomplete(what, accepted)
        if unused := [name for name in fit.unexpected if name.startswith(VALUE_HEADS)]:
            logger.warning("%s: not used, because only the training of a value function reads them: %s", path, unused)
        return model, True
    accepted = fit.without([], OUTPUT_HEADS)
    has_head = not any(name.startswith(SCORE) for name in fit.missing)
    # A head under another name would be replaced by a random one.
    refuse_incomplete(what, accepted if accepted.unexpected else accepted.without([SCORE], []))
    return model, has_head


def load_whole(what: str, auto_class: Any, path: str, **options: Any) -> tuple["PreTrainedModel", Fit]:
    """Load a model with transformers; also return how its weights fit the files.

    Known prefixes of the names are removed, and the log says so. ``what`` names the model in error messages.
    """
    stored = _checked_files(what, path)
    options = {"output_loading_info": True, "ignore_mismatched_sizes": True, **options}
    model, report = load_from(what, auto_class.from_pretrained, path, **options)
    stored = stored or stored_shapes(path)  # the files of a hub model are here only now
    fit = checked_fit(model, stored, report)
    if not fit.without([SCORE], []).missing:
        return model, fit
    pattern, replacement, message = "", "", ""
    if prefixes := known_prefixes(model, stored):
        pattern = "^" + "".join(f"(?:{re.escape(prefix)})?" for prefix in prefixes)
        stored = {without_prefixes(name, prefixes): shape for name, shape in stored.items()}
        message = f"the names of its weights begin with {''.join(prefixes)}, which was removed from {len(stored)} names"
    elif embeddings := tied_embeddings(model, stored, fit):
        pattern, replacement = rf"^{re.escape(TIED_HEAD)}$", embeddings
        stored = {embeddings if name == TIED_HEAD else name: shape for name, shape in stored.items()}
        message = f"its embeddings are stored as {TIED_HEAD}, to which config.json ties them"
    if message:
        model, report = load_from(what, auto_class.from_pretrained, path, key_mapping={pattern: replacement}, **options)
        fit = checked_fit(model, stored, report)
        # transformers would save the model under the names of its files again.
        model._weight_conversions = [
            step for step in model._weight_conversions if pattern not in getattr(step, "source_patterns", ())
        ]
        logger.warning("%s: %s", path, message)
    return model, fit


def _checked_files(what: str, path: str) -> dict[str, Shape]:
    """Return the shapes in the files of a folder or of a cached model. Raises PlauditError for a damaged file."""
    try:
        for name in ("config.json", "generation_config.json"):  # transformers ignores a damaged second one
            if (Path(path) / name).is_file():
                read_json(Path(path) / name)
        return stored_shapes(path)
    except PlauditError as fault:
        raise PlauditError(f"cannot load {what}: {fault}") from fault


def refuse_encoder_decoder(path: str, model_config: Any) -> None:
    """Raise PlauditError for a model with an encoder."""
    if model_config.is_encoder_decoder:
        raise PlauditError(f"{path}: encoder-decoder models are not supported; choose a causal language model")


def refuse_labels(path: str, stored: Mapping[str, Shape]) -> None:
    """Raise PlauditError for a classifier with several labels, which is not a reward model."""
    heads = [shape for name, shape in stored.items() if name == f"{SCORE}weight" or name.endswith(f".{SCORE}weight")]
    if heads and len(heads[0]) == 2 and heads[0][0] != 1:
        raise PlauditError(
            f"{path}: this classifier has {heads[0][0]} labels, but a reward model has one; use it as a reward source "
            "with kind: classifier and the name of a label, or train a reward model from a language model"
        )


def weight_options(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Return the options of ``from_pretrained`` for the type of the weights and their quantization on ``device``.

    Raises PlauditError if the package for quantization is missing.
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
    is_tokenizer = what.startswith("tokenizer")
    try:
        refuse_substitutes(Path(str(path)))
        if is_hub_name(str(path)):
            options = {**hub_options(str(path)), **options}
    except PlauditError as fault:
        raise PlauditError(f"cannot load {what}: {fault}") from fault
    try:
        loaded = or_explain(what, load, path, **{"trust_remote_code": False, **options})
    except PlauditError as fault:
        if missing := missing_part(str(path), is_tokenizer):
            raise PlauditError(f"cannot load {what}: {missing}") from fault
        for file in sorted(Path(str(path)).glob("*.json")):  # the libraries rarely say which file is damaged
            try:
                read_json(file)
            except PlauditError as damage:
                raise PlauditError(f"cannot load {what}: {damage}") from fault
        raise
    # Without tokenizer files, transformers returns an empty tokenizer for some architectures.
    if is_tokenizer and not set(loaded.get_vocab()) - set(loaded.all_special_tokens):  # type: ignore[attr-defined]
        raise PlauditError(f"cannot load {what}: {NO_TOKENIZER}")
    return loaded


def or_explain(what: str, load: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
    """Call ``load``, without the progress bars and advice of transformers.

    Raises PlauditError with ``what`` and the text of the exception, or that memory ran out, on one line.
    """
    try:
        with quiet_libraries():
            return load(*arguments, **options)
    except (PlauditError, Interrupted):
        raise
    except Exception as fault:  # what is wrong with the files of others can raise anything
        if is_out_of_memory(fault):
            raise PlauditError(f"cannot load {what}: {OUT_OF_MEMORY}") from fault
        if "trust_remote_code" in str(fault):
            raise PlauditError(
                f"cannot load {what}: it needs Python code from its folder or repository, which was not run; read the "
                "code, and set trust_remote_code: true next to the path if you trust it"
            ) from fault
        raise PlauditError(f"cannot load {what}: {one_line(fault)}") from fault
