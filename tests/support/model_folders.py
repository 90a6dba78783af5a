"""Folders with tiny random models, and their weights under other names, with other shapes or damaged."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tiny_models import VOCABULARY

WEIGHTS = "model.safetensors"


def index_tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose words w0, w1, … are the ids of the tiny models."""
    words = [f"w{number}" for number in range(VOCABULARY - 1)] + ["<|endoftext|>"]  # Qwen2's class adds the last one
    tokenizer = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, **({"bos_token": "w0", "eos_token": "w1", "pad_token": "w2"} | special)
    )


def saved(model: Any, folder: Path, **special: str) -> Path:
    """Save a model of ``tiny_models`` with a tokenizer."""
    model.save_pretrained(folder)
    index_tokenizer(**special).save_pretrained(folder)
    return folder


def read_weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / WEIGHTS)


def write_weights(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Replace the weights of a folder."""
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, folder / WEIGHTS, {"format": "pt"})
