"""Folders that contain only an adapter and the name of its base model, as saved for quantized bases."""

import json
from pathlib import Path
from typing import Any

from plaudit.config.schema import LoraConfig, ModelConfig
from plaudit.errors import PlauditError
from plaudit.hub import TOKENIZER_FILES
from plaudit.models.adapters.lora import CONTINUED
from plaudit.models.adapters.targets import modules_named
from plaudit.models.trunk import unwrapped
from plaudit.models.weights.completeness import SCORE, Fit, refuse_incomplete
from plaudit.models.weights.files import ADAPTER_WEIGHTS, read_json, refuse_substitutes, stored_shapes

ADAPTER_FILE = "adapter_config.json"
PEFT_PREFIX = "base_model.model."
HEADS = {"classifier", "score"}
"""Modules to save that peft adds for classifiers, whether they exist or not."""
BASE_FILE = "base_model.json"
"""How the base was quantized: the adapter was trained on the rounded weights and needs the same weights again."""


def save_adapter(model: Any, folder: Path) -> None:
    """Write the active adapter, and how its base is quantized."""
    model.save_pretrained(folder, selected_adapters=model.active_adapters)
    base = {"quantization": quantization_of(unwrapped(model))}
    (folder / BASE_FILE).write_text(json.dumps(base) + "\n")


def quantization_of(model: Any) -> str | None:
    """Return a model's quantization as the configuration names it: ``4bit``, ``8bit`` or None."""
    quantized = getattr(model.config, "quantization_config", None)
    if quantized is None:
        return None
    return "4bit" if quantized.load_in_4bit else "8bit"


def adapter_task(path: str | None) -> str | None:
    """Return peft's name for an adapter folder's task (CAUSAL_LM, SEQ_CLS); None if the folder is not an adapter.

    Raises PlauditError if the folder's configuration is damaged or names another kind of adapter than LoRA.
    """
    file = Path(path or "") / ADAPTER_FILE
    if not path or not file.is_file():
        return None
    content = read_json(file)
    if content.get("peft_type") != "LORA" or not content.get("base_model_name_or_path"):
        raise PlauditError(
            f"{file}: names no base model or no LoRA adapter (peft_type {content.get('peft_type')}); give a LoRA "
            "adapter that peft saved, or merge it into its base with peft"
        )
    targets, rank, alpha = (content.get(key) for key in ("target_modules", "r", "lora_alpha"))
    if not targets or not isinstance(targets, str | list) or not all(isinstance(name, str) for name in targets):
        raise PlauditError(f"{file}: target_modules {targets!r}: expected names of modules; restore the file")
    if type(rank) is not int or rank < 1 or type(alpha) not in (int, float):
        raise PlauditError(
            f"{file}: r {rank!r} and lora_alpha {alpha!r}: expected a whole number above 0 and a number; restore it"
        )
    return str(content.get("task_type") or "CAUSAL_LM")


def base_of_adapter(config: ModelConfig) -> ModelConfig:
    """Return the configuration of the base of the adapter folder ``config.path``, with the folder's tokenizer if any.

    Raises PlauditError if the configuration asks for new adapters, but the saved one cannot be merged because its base
    is quantized.
    """
    folder = Path(config.path or "")
    if config.lora is not None and not config.lora.continues and not can_be_merged(config):
        raise PlauditError(
            f"{folder}: an adapter on a quantized base cannot be merged, which new adapters need; train it further "
            f"with lora: continue, or start from {base_name(folder)}"
        )
    saved = folder / BASE_FILE
    quantization = read_json(saved).get("quantization") if saved.is_file() else config.quantization
    own = str(folder) if any((folder / name).is_file() for name in TOKENIZER_FILES) else None
    changes = {"path": base_name(folder), "quantization": quantization, "tokenizer": config.tokenizer or own}
    return config.model_copy(update={**changes, "lora": None})


def refuse_continued_base(config: ModelConfig) -> None:
    """Raise PlauditError if an adapter is to be trained further, but ``config.path`` is not an adapter folder."""
    if config.lora is not None and config.lora.continues and adapter_task(config.path) is None:
        raise PlauditError(
            f"{config.path}: no adapter to continue, there is no {ADAPTER_FILE} here; give the folder of an adapter, "
            "or remove lora: continue"
        )


def can_be_merged(config: ModelConfig) -> bool:
    """Whether the adapter folder ``config.path`` belongs to a base that is not quantized."""
    return config.quantization is None and not (Path(config.path or "") / BASE_FILE).is_file()


def merged_into_base(adapted: Any, path: str) -> Any:
    """Merge a loaded adapter into its base and return the base, all of it trainable, under the adapter's name.

    Raises PlauditError if the adapter changes embeddings that are tied to the output head.
    """
    inner = unwrapped(adapted)
    pair = [layer for layer in (inner.get_input_embeddings(), inner.get_output_embeddings()) if layer is not None]
    bases = [layer.get_base_layer() if hasattr(layer, "get_base_layer") else layer for layer in pair]
    if bases != pair and len(bases) == 2 and bases[0].weight is bases[1].weight:
        raise PlauditError(
            f"{path}: the adapter changes embeddings that are tied to the output head, so it cannot be merged; set "
            "tie_word_embeddings to false in the base and store the head there, or train an adapter on other modules"
        )
    model = adapted.merge_and_unload()
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.is_floating_point())
    model.name_or_path = model.config._name_or_path = path  # what is trained from here belongs to the merged weights
    return model


def base_name(folder: Path) -> str:
    """Return the folder or hub name of the base of an adapter folder."""
    return str(read_json(folder / ADAPTER_FILE)["base_model_name_or_path"])


def lora_of_adapter(path: str, dropout: float) -> LoraConfig:
    """Return the configuration of new adapters of the size and in the places of a saved one."""
    saved = read_json(Path(path) / ADAPTER_FILE)
    targets = saved["target_modules"]
    return LoraConfig(rank=saved["r"], alpha=float(saved["lora_alpha"]), dropout=dropout, targets=targets)


def with_saved_adapter(model: Any, folder: str, lora: LoraConfig | None = None) -> Any:
    """Put the folder's adapter on its base; with ``lora``, it is trainable and has that dropout.

    Raises PlauditError if its weights are not exactly those in the folder.
    """
    import peft

    refuse_substitutes(Path(folder))
    stored = stored_shapes(folder, ADAPTER_WEIGHTS)
    config = peft.PeftConfig.from_pretrained(folder)
    for name in {*(config.modules_to_save or ())} - HEADS:
        if not modules_named(model, name):
            raise PlauditError(f"{Path(folder) / ADAPTER_FILE}: modules_to_save: the model has no module {name!r}")
    new_head = hasattr(model, "score") and config.task_type != "SEQ_CLS"
    if new_head:  # a language model's adapter, from which a reward model is to be trained
        config.task_type = None
    if lora is not None:
        config.lora_dropout = lora.dropout
    if lora is not None and new_head:
        adapted = _with_trainable_head(model, folder, config)
    else:
        adapted = peft.PeftModel.from_pretrained(model, folder, config=config, is_trainable=lora is not None)
    setattr(adapted, CONTINUED, lora is not None)
    own = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    mine = {name: tuple(tensor.shape) for name, tensor in own.items()}
    of_base = {f"{PEFT_PREFIX}{name}" for name in unwrapped(model).state_dict()}  # embeddings that were saved as well
    fit = Fit(
        tuple(mine.keys() - stored.keys()),
        tuple(stored.keys() - mine.keys() - of_base),
        {name: (stored[name], mine[name]) for name in mine.keys() & stored.keys() if stored[name] != mine[name]},
    )
    refuse_incomplete(f"adapter {folder}", fit.without([f"{PEFT_PREFIX}{SCORE}"] if new_head else [], []))
    return adapted


def _with_trainable_head(model: Any, folder: str, config: Any) -> Any:
    """Put a language model's adapter on a classifier, and train its new head as well."""
    import peft

    config.task_type, config.modules_to_save, config.inference_mode = "SEQ_CLS", ["score"], False
    head = {f"{PEFT_PREFIX}{SCORE}weight": model.score.weight.detach().clone()}
    adapted = peft.get_peft_model(model, config)
    peft.set_peft_model_state_dict(adapted, peft.load_peft_weights(folder, "cpu") | head)
    return adapted
