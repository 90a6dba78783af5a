"""A tokenizer, tiny random models and classifiers, prompts, and an engine that answers without a model."""

import json
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from plaudit.config.schema import EvaluateConfig, GenerationConfig
from plaudit.parallel.processes import OneProcess
from plaudit.rollouts.engines.base import in_one_piece
from plaudit.rollouts.samples import Piece, Request, Sample
from plaudit.seeding import python_generator

SPECIAL = ["[PAD]", "[UNK]", "[EOS]"]
WORDS = [*SPECIAL, "the", "a", "good", "bad", "day", "night", "was", "is", "very", "not", "kind", "rude"]
CPU = torch.device("cpu")
ALONE = OneProcess(CPU)


def make_tokenizer(words: Sequence[str] = WORDS) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", eos_token="[EOS]")


def save_tiny(folder: Path, auto_class: str, seed: int, words: Sequence[str] = WORDS, **options: Any) -> str:
    """Write a tiny random Llama of ``auto_class``; wide weights, so that texts differ clearly."""
    import transformers

    torch.manual_seed(seed)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    options = {"max_position_embeddings": 64, "initializer_range": 0.5, "pad_token_id": 0, "eos_token_id": 2} | options
    config = transformers.LlamaConfig(vocab_size=len(words), **sizes, **options)
    getattr(transformers, auto_class)(config).save_pretrained(folder)
    make_tokenizer(words).save_pretrained(folder)
    return str(folder)


def save_policy(folder: Path, seed: int, words: Sequence[str] = WORDS, **options: Any) -> str:
    return save_tiny(folder, "LlamaForCausalLM", seed, words, **options)


def save_classifier(folder: Path, labels: Sequence[str], seed: int = 0) -> str:
    return save_tiny(folder, "LlamaForSequenceClassification", seed, id2label=dict(enumerate(labels)))


def save_prompts(path: Path, prompts: Sequence[str]) -> str:
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return str(path)


PROMPTS = ["the day", "a night was", "the good day", "a bad", "not very kind", "the night", "a day is not"]


def make_config(folder: Path, **changes: Any) -> EvaluateConfig:
    """Two models, ``first`` (baseline) and ``second``, and two functions as rewards."""
    settings: dict[str, Any] = {
        "models": {"first": save_policy(folder / "first", 1), "second": save_policy(folder / "second", 2)},
        "baseline": "first",
        "prompts": {"sources": [save_prompts(folder / "prompts.jsonl", PROMPTS)], "held_out_fraction": 1.0},
        "rewards": [
            {"name": "words", "kind": "function", "function": "evaluation_world:count_words"},
            {"name": "kindness", "kind": "function", "function": "evaluation_world:count_kind"},
        ],
        "generation": {"max_new_tokens": 6},
        "samples": 3,
    }
    return EvaluateConfig.model_validate(settings | changes)


def count_words(prompts: list[str], responses: list[str]) -> list[int]:
    return [len(response.split()) for response in responses]


def count_kind(prompts: list[str], responses: list[str]) -> list[int]:
    return [response.split().count("kind") for response in responses]


class ScriptedEngine:
    """Answers with words that depend only on the request's seed; records its requests."""

    def __init__(self, loaded: Any) -> None:
        self.loaded = loaded
        self.asked: list[Request] = []

    def generate(self, requests: Sequence[Request], settings: GenerationConfig) -> list[Sample]:
        self.asked.extend(requests)
        return [self.answer(request, settings) for request in requests]

    def stream(self, requests: Sequence[Request], settings: GenerationConfig) -> Generator[Piece, None, None]:
        return in_one_piece(self.generate(requests, settings))

    def update_weights(self, version: int, tensors: Iterable[tuple[str, Tensor]]) -> None:
        """Nothing to do: this engine has no weights."""

    def close(self) -> None:
        """Nothing to release."""

    def answer(self, request: Request, settings: GenerationConfig) -> Sample:
        generator = python_generator(request.seed)
        length = generator.randint(1, settings.max_new_tokens)
        words = [generator.choice(WORDS[len(SPECIAL) :]) for _ in range(length)]
        ended = length < settings.max_new_tokens
        ids = (*(WORDS.index(word) for word in words), *([2] if ended else []))
        text = " ".join(words)
        return Sample(
            request.prompt_ids, ids, request.prompt_text, text, ended, fields=request.fields, origin=request.origin
        )
