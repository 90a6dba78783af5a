"""A tokenizer, samples and tiny random classifiers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.rollouts.samples import Sample

SPECIAL = ["[PAD]", "[UNK]", "[EOS]"]
WORDS = [*SPECIAL, "the", "a", "good", "bad", "day", "night", "was", "is", "very", "not", "kind", "rude"]


def make_tokenizer(words: list[str] = WORDS) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]", model_max_length=24
    )


def save_classifier(folder: Path, labels: list[str], problem_type: str | None = None, seed: int = 0) -> str:
    """Write a tiny random Llama classifier; wide weights, so that texts get clearly different scores."""
    from transformers import LlamaConfig, LlamaForSequenceClassification

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=32,
        initializer_range=0.5,
        pad_token_id=0,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
        problem_type=problem_type,
    )
    LlamaForSequenceClassification(config).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.fixture
def tokenizer() -> Any:
    return make_tokenizer()


@pytest.fixture
def sample_of(tokenizer: Any) -> Callable[..., Sample]:
    def make(prompt: str, response: str, **fields: Any) -> Sample:
        return Sample(
            tuple(tokenizer(prompt)["input_ids"]),
            (*tokenizer(response)["input_ids"], tokenizer.eos_token_id),
            prompt,
            response,
            ended=True,
            fields=fields,
        )

    return make


@pytest.fixture
def classifier_folder(tmp_path: Path) -> Callable[..., str]:
    def make(labels: list[str], problem_type: str | None = None, seed: int = 0) -> str:
        return save_classifier(tmp_path / f"classifier_{len(labels)}_{seed}", labels, problem_type, seed)

    return make
