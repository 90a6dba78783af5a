"""The longest sequence that a model reads."""

from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

UNBOUNDED_CONTEXT = 2**20  # tokens, for models whose configuration has no limit


def context_length(model: "PreTrainedModel") -> int:
    """Return the longest sequence that a model supports, in tokens.

    RoBERTa and its relatives count positions from the one after the padding token's id, so 514 position embeddings read
    512 tokens.
    """
    unused = (
        module.padding_idx + 1
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and module.padding_idx is not None and "position" in name
    )
    return configured_length(model.config) - max(unused, default=0)


def configured_length(config: "PreTrainedConfig") -> int:
    """Return the number of positions in a configuration, which is the context of every decoder."""
    for name in ("max_position_embeddings", "n_positions", "seq_length", "max_seq_len"):
        length = getattr(config, name, None)
        if isinstance(length, int):
            return length
    return UNBOUNDED_CONTEXT
