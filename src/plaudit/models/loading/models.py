"""From the configuration of a model to a transformers model, its tokenizer and its layout."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from plaudit.batching.batches import Layout
from plaudit.config.schema import LoraConfig, ModelConfig
from plaudit.errors import PlauditError, one_line
from plaudit.memory import is_out_of_memory
from plaudit.models.acceleration.layout_trial import choose_layout, try_few_positions
from plaudit.models.adapters.folder import adapter_task, base_of_adapter, with_saved_adapter
from plaudit.models.heads.output_head import head_is_known
from plaudit.models.trunk import unwrapped
from plaudit.seeding import derived_seed

UNBOUNDED_CONTEXT = 2**20  # for models that name no limit


@dataclass
class LoadedModel:
    """A model (inside peft's wrapper where it has adapters), its tokenizer, its layout and why it has that layout."""

    model: Any
    tokenizer: Any
    layout: Layout
    layout_reason: str

    @property
    def device(self) -> torch.device:
        """Where the weights live."""
        return next(self.model.parameters()).device

    @property
    def context_length(self) -> int:
        """Most token positions that the model has embeddings for."""
        return context_length(unwrapped(self.model).config)


def context_length(model_config: Any) -> int:
    """Return the longest sequence that a model was made for."""
    for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"):
        length = getattr(model_config, name, None)
        if isinstance(length, int):
            return length
    return UNBOUNDED_CONTEXT


def load_policy(config: ModelConfig, device: torch.device, seed: int = 0) -> LoadedModel:
    """Load (or make) a causal language model; ``seed`` decides random weights."""
    from transformers import AutoModelForCausalLM

    return _load(config, AutoModelForCausalLM, device, seed, "CAUSAL_LM")


def load_scorer(config: ModelConfig, device: torch.device, seed: int = 0) -> tuple[LoadedModel, bool]:
    """Load a model as a sequence classifier with one label, and say whether its head was already trained."""
    from transformers import AutoModelForSequenceClassification

    loaded = _load(config, AutoModelForSequenceClassification, device, seed, "SEQ_CLS")
    if not hasattr(unwrapped(loaded.model), "score"):
        raise PlauditError(
            f"{config.path}: this architecture has no sequence classifier that reads a decoder's last token"
        )
    return loaded, config.fresh is None and _is_classifier(str(config.path))


def load_tokenizer(config: ModelConfig) -> Any:
    """Load the tokenizer and make sure that it has an end and a padding token."""
    from transformers import AutoTokenizer

    name = config.tokenizer or config.path
    tokenizer = _or_explain(f"tokenizer {name}", AutoTokenizer.from_pretrained, name)
    for role in ("eos_token", "pad_token"):
        chosen = getattr(config, role)
        if chosen is not None:
            if tokenizer.convert_tokens_to_ids(chosen) in (None, getattr(tokenizer, "unk_token_id", None)) and (
                chosen != tokenizer.unk_token
            ):
                raise PlauditError(f"{name}: {role} {chosen!r} is not in the tokenizer's vocabulary")
            setattr(tokenizer, role, chosen)
        if getattr(tokenizer, role) is None:
            raise PlauditError(f"{name}: the tokenizer names no {role}; choose one with model.{role}=…")
    if config.chat_template is not None:
        tokenizer.chat_template = config.chat_template
    return tokenizer


def _load(config: ModelConfig, auto_class: Any, device: torch.device, seed: int, task: str) -> LoadedModel:
    if adapter_task(config.path) is not None:
        base = _load(base_of_adapter(config), auto_class, device, seed, task)
        model = with_saved_adapter(base.model, str(config.path)).to(device)
        return LoadedModel(model.eval(), base.tokenizer, base.layout, base.layout_reason)
    tokenizer = load_tokenizer(config)
    extra = {"num_labels": 1} if task == "SEQ_CLS" else {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        if config.fresh is not None:
            model = _fresh(config, auto_class, tokenizer, extra)
        else:
            model = _pretrained(config, auto_class, device, extra)
        if config.quantization is None:
            model = model.to(device)
        _check_vocabulary(config, model, tokenizer)
        model.config.pad_token_id = tokenizer.pad_token_id
        if task == "CAUSAL_LM" and not head_is_known(model):
            raise PlauditError(
                f"{config.path or 'model.fresh'}: this architecture changes logits after the output head in a way that "
                "is not supported; choose another model"
            )
        layout, reason = choose_layout(model, config.layout)
        try_few_positions(model)
        if config.lora is not None:
            model = with_adapter(model, config.lora, task)
    return LoadedModel(model.eval(), tokenizer, layout, reason)


def _fresh(config: ModelConfig, auto_class: Any, tokenizer: Any, extra: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    assert config.fresh is not None
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    options = special | {"vocab_size": len(tokenizer)} | config.fresh.options | extra
    model_config = _or_explain(
        f"model.fresh ({config.fresh.architecture})", AutoConfig.for_model, config.fresh.architecture, **options
    )
    _set_dropout(model_config, config.dropout)
    return auto_class.from_config(model_config, dtype=getattr(torch, config.dtype))


def _pretrained(config: ModelConfig, auto_class: Any, device: torch.device, extra: dict[str, Any]) -> Any:
    from transformers import AutoConfig

    model_config = _or_explain(f"model {config.path}", AutoConfig.from_pretrained, config.path, **extra)
    if model_config.is_encoder_decoder:
        raise PlauditError(f"{config.path}: encoder-decoder models are not supported; choose a causal language model")
    _set_dropout(model_config, config.dropout)
    options = {"config": model_config, **weight_options(config, device)}
    return _or_explain(f"model {config.path}", auto_class.from_pretrained, config.path, **options)


def weight_options(config: ModelConfig, device: torch.device) -> dict[str, Any]:
    """Return the arguments of ``from_pretrained`` that say how the weights are held: their type, and quantization."""
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


def _check_vocabulary(config: ModelConfig, model: Any, tokenizer: Any) -> None:
    largest = max(tokenizer.get_vocab().values())
    if largest >= model.config.vocab_size:
        raise PlauditError(
            f"{config.path or 'model.fresh'}: the tokenizer {config.tokenizer or config.path} has ids up to {largest}, "
            f"the model only {model.config.vocab_size} embeddings; give the tokenizer that belongs to the model"
        )


def _is_classifier(path: str) -> bool:
    from transformers import AutoConfig

    task = adapter_task(path)
    if task is not None:
        return task == "SEQ_CLS"
    architectures = AutoConfig.from_pretrained(path).architectures or [""]
    return "ForSequenceClassification" in architectures[0]


def with_adapter(model: Any, config: LoraConfig, task: str, name: str = "default") -> Any:
    """Freeze a model and put low-rank adapters on it; a classifier's head stays trainable."""
    import peft

    return peft.get_peft_model(
        model,
        peft.LoraConfig(
            task_type=task,
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
            target_modules=config.targets,
            modules_to_save=["score"] if task == "SEQ_CLS" else None,
        ),
        adapter_name=name,
    )


def _or_explain(what: str, load: Any, *arguments: Any, **options: Any) -> Any:
    """Call ``load``; say what it was that did not load, with the whole text of the exception on one line."""
    try:
        return load(*arguments, **options)
    except (OSError, ValueError, KeyError, TypeError) as fault:
        if is_out_of_memory(fault):
            raise
        path = str(arguments[0])
        if path.startswith((".", "/")) and not Path(path).exists():
            raise PlauditError(f"cannot load {what}: no such folder; give an existing folder or a hub name") from fault
        raise PlauditError(f"cannot load {what}: {one_line(fault)}") from fault
