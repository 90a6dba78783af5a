"""A tokenizer, samples and tiny random classifiers."""

from pathlib import Path
from typing import Any

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


def sample_of(prompt: str, response: str, **fields: Any) -> Sample:
    """Return the sample that a policy with ``make_tokenizer`` would have given."""
    tokenizer = make_tokenizer()
    response_ids = (*tokenizer(response)["input_ids"], tokenizer.eos_token_id)
    return Sample(tuple(tokenizer(prompt)["input_ids"]), response_ids, prompt, response, ended=True, fields=fields)


def lengths(prompts: list[str], responses: list[str]) -> list[int]:
    """Return the number of words of each response: a reward function for recipes, ``reward_samples:lengths``."""
    return [len(response.split()) for response in responses]
