"""Tiny random models of several architectures, for tests that compare with plain transformers."""

from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

VOCABULARY = 37
GROUPED_QUERIES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
}
SIZES: dict[str, dict[str, Any]] = {
    "llama": GROUPED_QUERIES,
    "gpt2": {"n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 64},
    "gpt_neox": {
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
    },
    "qwen2": GROUPED_QUERIES,
    "opt": {
        "hidden_size": 16,
        "ffn_dim": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 16,
    },
    "bloom": {"hidden_size": 16, "n_layer": 2, "n_head": 4},
    "mistral": {
        **GROUPED_QUERIES,
        "sliding_window": 16,
    },
    "gemma2": {
        **GROUPED_QUERIES,
        "head_dim": 4,
        "sliding_window": 16,
        "final_logit_softcapping": 2.0,
    },
    "cohere": {
        **GROUPED_QUERIES,
        "logit_scale": 0.3,
    },
    "granite": {
        **GROUPED_QUERIES,
        "logits_scaling": 3.0,
        "embedding_multiplier": 2.0,
        "attention_multiplier": 0.3,
        "residual_multiplier": 0.7,
    },
}


def tiny_config(architecture: str, **extra: Any) -> Any:
    """Return a configuration with a few thousand parameters and no dropout."""
    config = AutoConfig.for_model(
        architecture,
        vocab_size=VOCABULARY,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
        **SIZES[architecture],
        **extra,
    )
    for name in vars(config):
        if "dropout" in name or "pdrop" in name:
            setattr(config, name, 0.0)
    return config


def _random(auto_class: Any, config: Any, seed: int, dtype: torch.dtype) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = auto_class.from_config(config)
        # With the usual initialization, which is small, a wrong mask would hardly show.
        for parameter in model.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=0.3)
    return model.to(dtype).eval()


def tiny_causal_model(architecture: str, seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any) -> Any:
    return _random(AutoModelForCausalLM, tiny_config(architecture, **options), seed, dtype)


def tiny_classifier(architecture: str, seed: int = 0, dtype: torch.dtype = torch.float32) -> Any:
    """Return a random sequence classifier with one label."""
    return _random(AutoModelForSequenceClassification, tiny_config(architecture, num_labels=1), seed, dtype)
