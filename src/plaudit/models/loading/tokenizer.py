"""Loads the tokenizer of a configured model."""

from typing import TYPE_CHECKING

from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.padding import with_padding_token
from plaudit.models.loading.pretrained import load_from

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_tokenizer(config: ModelConfig) -> "PreTrainedTokenizerBase":
    """Load the tokenizer and make sure that it has an end-of-sequence token and a padding token.

    Raises PlauditError if it cannot be loaded, if it has no end-of-sequence token, or if a configured token is unknown.
    """
    from transformers import AutoTokenizer

    name = config.tokenizer or config.path
    trust = config.trust_remote_code
    tokenizer = load_from(f"tokenizer {name}", AutoTokenizer.from_pretrained, name, trust_remote_code=trust)
    for role in ("eos_token", "pad_token"):
        chosen = getattr(config, role)
        if chosen is not None:
            if tokenizer.convert_tokens_to_ids(chosen) in (None, getattr(tokenizer, "unk_token_id", None)) and (
                chosen != tokenizer.unk_token
            ):
                raise PlauditError(
                    f"{name}: {role} {chosen!r} is not in the tokenizer's vocabulary; choose another token"
                )
            setattr(tokenizer, role, chosen)
    if tokenizer.eos_token is None:
        raise PlauditError(f"{name}: the tokenizer has no eos_token; set eos_token next to the stage's model.path")
    with_padding_token(tokenizer, str(name))
    if config.chat_template is not None:
        tokenizer.chat_template = config.chat_template
    return tokenizer


def check_vocabulary(config: ModelConfig, model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase") -> None:
    """Raise PlauditError if the tokenizer has ids that the model has no embeddings for."""
    largest = max(tokenizer.get_vocab().values())
    if largest >= model.config.vocab_size:
        raise PlauditError(
            f"{config.path or 'model.fresh'}: the tokenizer {config.tokenizer or config.path} has ids up to {largest}, "
            f"but the model has only {model.config.vocab_size} embeddings; use the tokenizer that belongs to the model"
        )
