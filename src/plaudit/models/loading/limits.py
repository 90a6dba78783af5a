"""What the configuration of a model says before its weights are loaded."""

from typing import TYPE_CHECKING

from plaudit.config.schema import ModelConfig
from plaudit.models.adapters.folder import adapter_task, base_of_adapter
from plaudit.models.context import configured_length
from plaudit.models.loading.pretrained import load_from, or_explain

if TYPE_CHECKING:
    from transformers import PreTrainedConfig


def configured_context_length(config: ModelConfig) -> int:
    """Return the longest sequence that a language or reward model supports, in tokens.

    Raises PlauditError if its configuration cannot be read.
    """
    return configured_length(configuration_of(config))


def configuration_of(config: ModelConfig) -> "PreTrainedConfig":
    """Return the configuration of a language or reward model, which is that of its base for an adapter folder.

    Raises PlauditError if it cannot be read.
    """
    from transformers import AutoConfig

    if adapter_task(config.path) is not None:
        config = base_of_adapter(config.model_copy(update={"lora": None}))
    if config.fresh is None:
        return stored_configuration(str(config.path), config.trust_remote_code)
    what = f"model.fresh ({config.fresh.architecture})"
    return or_explain(what, AutoConfig.for_model, config.fresh.architecture, **config.fresh.options)


def stored_configuration(path: str, trust_remote_code: bool = False) -> "PreTrainedConfig":
    """Return the configuration of a folder or hub model. Raises PlauditError if it cannot be read."""
    from transformers import AutoConfig

    found: PreTrainedConfig = load_from(
        f"model {path}", AutoConfig.from_pretrained, path, trust_remote_code=trust_remote_code
    )
    return found
