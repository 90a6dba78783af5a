"""Loads a configured model, in these steps:

1. The tokenizer (``tokenizer``).
2. The weights (``pretrained``).
3. Checks that the parts fit.
4. Acceleration: a trial decides what the model supports (``acceleration.install``).
5. Low-rank adapters, if the configuration asks for them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch

from plaudit.config.schema import LoraConfig, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration.install import Acceleration, install
from plaudit.models.adapters.folder import (
    adapter_task,
    base_name,
    base_of_adapter,
    can_be_merged,
    merged_into_base,
    refuse_continued_base,
    with_saved_adapter,
)
from plaudit.models.adapters.lora import with_adapter
from plaudit.models.context import context_length
from plaudit.models.heads.output_head import head_is_known
from plaudit.models.loading.limits import configuration_of, stored_configuration
from plaudit.models.loading.padding import with_padding_token
from plaudit.models.loading.pretrained import fresh_model, or_explain, pretrained_model
from plaudit.models.loading.tokenizer import check_vocabulary, load_tokenizer
from plaudit.models.trunk import unwrapped
from plaudit.models.weights.completeness import SCORE
from plaudit.models.weights.files import ADAPTER_WEIGHTS, MODEL_WEIGHTS, stored_shapes
from plaudit.seeding import derived_seed

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from plaudit.batching.layouts.base import Layout

Head = Literal["CAUSAL_LM", "SEQ_CLS"]
"""The kind of head, as peft names it: a language model's output head or a classifier's."""

logger = logging.getLogger("plaudit.models")


@dataclass
class LoadedModel:
    """A model (inside peft's wrapper if it has adapters), its tokenizer, and its accelerations."""

    model: "PreTrainedModel | PeftModel"
    tokenizer: "PreTrainedTokenizerBase"
    acceleration: Acceleration

    @property
    def layout(self) -> "Layout":
        """The layout of the model's batches."""
        return self.acceleration.layout

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def context_length(self) -> int:
        """The longest sequence that the model supports, in tokens."""
        return context_length(unwrapped(self.model))


def load_policy(config: ModelConfig, device: torch.device, seed: int = 0) -> LoadedModel:
    """Load (or create) a causal language model; ``seed`` determines random weights.

    Raises PlauditError if it cannot be loaded or its parts do not fit together.
    """
    loaded, _ = _load(config, "CAUSAL_LM", device, seed)
    return _logged("policy", config, loaded)


def given_policy(
    model: "PreTrainedModel | PeftModel", tokenizer: "PreTrainedTokenizerBase", device: torch.device | None = None
) -> LoadedModel:
    """Return a causal language model of transformers and its tokenizer as a loaded one; they are not copied.

    ``device``: where to move the model; None leaves it where it is. Raises PlauditError if the parts do not fit
    together.
    """
    inner = unwrapped(model)
    config = ModelConfig(path=inner.name_or_path or type(inner).__name__)
    if tokenizer.eos_token is None:
        raise PlauditError(f"{config.path}: the tokenizer has no eos_token; set tokenizer.eos_token")
    with_padding_token(tokenizer, str(config.path))
    if device is not None:
        or_explain(f"model {config.path}", model.to, device)
    acceleration = _accelerated(config, inner, tokenizer, "CAUSAL_LM")
    return _logged("policy", config, LoadedModel(model.eval(), tokenizer, acceleration))


def load_scorer(
    config: ModelConfig, device: torch.device, seed: int = 0, role: str = "reward model"
) -> tuple[LoadedModel, bool]:
    """Load a model as a sequence classifier with one label; also return whether its head was already trained.

    ``role`` is what the log calls the model. Raises PlauditError if it cannot be loaded or its parts do not fit
    together.
    """
    loaded, has_head = _load(config, "SEQ_CLS", device, seed)
    if not hasattr(unwrapped(loaded.model), "score"):
        raise PlauditError(
            f"{config.path}: transformers has no sequence classifier for this architecture that reads the last token; "
            "choose another model"
        )
    return _logged(role, config, loaded), has_head


def _load(config: ModelConfig, head: Head, device: torch.device, seed: int) -> tuple[LoadedModel, bool]:
    """Return the model and whether its head is a trained one."""
    continued = config.lora if config.lora is not None and config.lora.continues else None
    if adapter_task(config.path) is not None:
        base, _ = _load(base_of_adapter(config), head, device, seed)
        what, path = f"adapter {config.path}", str(config.path)
        model = or_explain(what, with_saved_adapter, base.model, path, continued).to(device)
        has_head = head == "CAUSAL_LM" or has_reward_head(path)
        if continued is not None:
            logger.info("%s: an adapter on %s, which is trained further", path, base_name(Path(path)))
        elif can_be_merged(config):
            model = merged_into_base(model, str(config.path))
            logger.info("%s: an adapter, merged into its base", config.path)
            if config.lora is not None:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(derived_seed(seed, "weights"))
                    model = _with_new_adapter(model, config, head)
        return LoadedModel(model.eval(), base.tokenizer, base.acceleration), has_head
    refuse_continued_base(config)
    tokenizer = load_tokenizer(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derived_seed(seed, "weights"))
        model, has_head = _weights(config, head, tokenizer, device)
        acceleration = _accelerated(config, model, tokenizer, head)
        if config.lora is not None:
            model = _with_new_adapter(model, config, head)
    return LoadedModel(model.eval(), tokenizer, acceleration), has_head


def _accelerated(
    config: ModelConfig, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", head: Head
) -> Acceleration:
    """Check that model and tokenizer fit, and install what makes the model faster."""
    check_vocabulary(config, model, tokenizer)
    _check_finite(config, model)
    model.config.pad_token_id = tokenizer.pad_token_id
    if head == "CAUSAL_LM" and not head_is_known(model):
        raise PlauditError(
            f"{config.path or 'model.fresh'}: this architecture modifies the logits after the output head in an "
            "unsupported way; choose another model"
        )
    return install(model, config.layout, generates=head == "CAUSAL_LM")


def _weights(
    config: ModelConfig, head: Head, tokenizer: "PreTrainedTokenizerBase", device: torch.device
) -> tuple["PreTrainedModel", bool]:
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto_class = AutoModelForCausalLM if head == "CAUSAL_LM" else AutoModelForSequenceClassification
    extra = {"num_labels": 1} if head == "SEQ_CLS" else {}
    model: PreTrainedModel
    has_head = False
    if config.fresh is not None:
        model = fresh_model(config, auto_class, tokenizer, extra)
    else:
        model, has_head = pretrained_model(config, auto_class, device, extra)
    if config.quantization is None:
        or_explain(f"model {config.path or 'model.fresh'}", model.to, device)
    return model, has_head


def _with_new_adapter(model: Any, config: ModelConfig, head: Head) -> "PeftModel":
    assert config.lora is not None
    try:
        return with_adapter(model, config.lora, head)
    except PlauditError as fault:
        raise PlauditError(f"{config.path or 'model.fresh'}: {fault}") from fault


def check_new_adapter(model: ModelConfig, lora: LoraConfig, head: Head) -> None:
    """Add new adapters to a model without weights. Raises PlauditError if they, or its configuration, do not fit."""
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

    auto_class = AutoModelForCausalLM if head == "CAUSAL_LM" else AutoModelForSequenceClassification
    with torch.device("meta"):
        without_weights = or_explain(f"model {model.path}", auto_class.from_config, configuration_of(model))
        with_adapter(without_weights, lora, head)


def is_classifier(path: str, trust_remote_code: bool = False) -> bool:
    """Return whether a folder or hub name claims to be a classifier. Raises PlauditError if it cannot be read."""
    task = adapter_task(path)
    if task is not None:
        return task == "SEQ_CLS"
    config = stored_configuration(path, trust_remote_code)
    architectures: list[str] = config.architectures or [""]
    return "ForSequenceClassification" in architectures[0]


def has_reward_head(path: str) -> bool:
    """Return whether the files of a folder, adapter or hub model hold a reward model's head, whatever config.json says.

    Raises PlauditError if they cannot be read. For a hub model that is not here yet, its configuration decides.
    """
    stored = stored_shapes(path, MODEL_WEIGHTS if adapter_task(path) is None else ADAPTER_WEIGHTS)
    head = f"{SCORE}weight"
    return any(f".{name}".endswith(f".{head}") for name in stored) if stored else is_classifier(path)


def _logged(role: str, config: ModelConfig, loaded: LoadedModel) -> LoadedModel:
    name = config.path or f"{config.fresh and config.fresh.architecture} (random weights)"
    logger.info("%s %s: %s", role, name, loaded.acceleration)
    return loaded


def _check_finite(config: ModelConfig, model: Any) -> None:
    """Raise PlauditError if a weight is NaN or infinite."""
    for name, weights in model.named_parameters():
        if weights.is_floating_point() and not torch.isfinite(weights).all():
            raise PlauditError(
                f"{config.path or 'model.fresh'}: {name} holds NaN or infinite values; its training failed, or its "
                "file is damaged: choose another model"
            )
