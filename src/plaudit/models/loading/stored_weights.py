"""Finds weights that a model's files lack before anything is trained: names and shapes are compared, not values."""

from pathlib import Path
from typing import Any, Literal

import torch

from plaudit.errors import PlauditError
from plaudit.models.adapters.folder import adapter_task, base_name
from plaudit.models.loading.limits import stored_configuration
from plaudit.models.loading.pretrained import or_explain, refuse_encoder_decoder, refuse_labels
from plaudit.models.weights.completeness import (
    OUTPUT_HEADS,
    SCORE,
    Fit,
    fit_of,
    known_prefixes,
    refuse_incomplete,
    tied_embeddings,
    without_prefixes,
)
from plaudit.models.weights.files import ADAPTER_WEIGHTS, Shape, stored_shapes

Use = Literal["language model", "start of a reward model", "reward model", "classifier"]


def refuse_lacking_weights(path: str, use: Use, trust_remote_code: bool = False) -> None:
    """Raise PlauditError if weights that a folder, adapter or cached hub model needs for a use are not in its files.

    Not checked are hub models that are not here yet, quantized models, and models with code of their own.
    """
    what = f"{use} {path}"
    if adapter_task(path) is not None:
        if use != "classifier":
            base: Use = "language model" if use == "language model" else "start of a reward model"
            refuse_lacking_weights(base_name(Path(path)), base, trust_remote_code)
        elif all(".lora_" in name for name in stored_shapes(path, ADAPTER_WEIGHTS)):
            refuse_incomplete(what, Fit(("classifier head",), (), {}))
        return
    stored = stored_shapes(path)
    if not stored:
        return
    config = stored_configuration(path, trust_remote_code)
    if hasattr(config, "quantization_config") or hasattr(config, "auto_map"):
        return
    if use != "classifier":
        refuse_encoder_decoder(path, config)
    if "reward model" in use:
        refuse_labels(path, stored)
    fit = _fit(path, config, use, stored)
    refuse_incomplete(what, fit.without([SCORE] if use == "start of a reward model" else [], []))


def _fit(path: str, config: Any, use: Use, stored: dict[str, Shape]) -> Fit:
    """Compare the files with a model that has no values.

    Weights that transformers may rename or join are not missing: the names in the files that the model does not have
    hold at least as many numbers.
    """
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto_class: Any = AutoModelForCausalLM if use == "language model" else AutoModelForSequenceClassification
    if type(config) not in auto_class._model_mapping:
        kind = "language model" if use == "language model" else "sequence classifier"
        raise PlauditError(f"{path}: transformers has no {kind} of type {config.model_type}; choose another model")
    if "reward model" in use:
        config.num_labels = 1
    with torch.device("meta"):
        model = or_explain(f"{use} {path}", auto_class.from_config, config)
    if prefixes := known_prefixes(model, stored):
        stored = {without_prefixes(name, prefixes): shape for name, shape in stored.items()}
    fit = fit_of(model, stored)
    missing = [name for name in fit.missing if name != tied_embeddings(model, stored, fit)]
    heads = [name for name in missing if not name.startswith(f"{model.base_model_prefix}.")]
    sizes = {name: tensor.numel() for name, tensor in model.state_dict().items()}
    if sum(sizes[name] for name in missing) > sum(torch.Size(stored[name]).numel() for name in fit.unexpected):
        lost = [*heads, *(name for name in missing if name not in heads)]
    else:
        # Heads of classifiers are not renamed, and those of language models only from these names.
        renamed = use == "language model" and any(name.startswith(OUTPUT_HEADS) for name in fit.unexpected)
        lost = [] if renamed else heads
    return Fit(tuple(lost), (), fit.mismatched)
