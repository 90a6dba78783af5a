"""Compares the server's log-probabilities with those of the model in this process."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import GenerationConfig
from plaudit.models.inference import token_log_probabilities
from plaudit.rollouts.samples import Request, Sample
from plaudit.seeding import derived_seed, python_generator

if TYPE_CHECKING:
    from plaudit.models.loading.models import LoadedModel

Generate = Callable[[Sequence[Request], GenerationConfig], list[Sample]]
PROMPTS = 4
LENGTH = 16  # tokens of a prompt and of a response
TEMPERATURE = 0.7  # another than 1: a server that reports the log-probabilities of temperature 1 is found


def mean_difference(generate: Generate, loaded: "LoadedModel") -> float:
    """Return the mean absolute difference, over sampled tokens, between a server's log-probabilities and the model's.

    The prompts are random tokens. The model computes with the type of its weights, without autocast.
    """
    length = min(LENGTH, loaded.context_length // 2)
    generator = python_generator("vllm", "probe")
    prompts = [tuple(generator.choices(range(len(loaded.tokenizer)), k=length)) for _ in range(PROMPTS)]
    requests = [Request(prompt, "", derived_seed("vllm", "probe", number)) for number, prompt in enumerate(prompts)]
    samples = generate(requests, GenerationConfig(max_new_tokens=length, temperature=TEMPERATURE))
    trees = [PromptTree(sample.prompt_ids, (sample.response_ids,)) for sample in samples]
    own = torch.cat(token_log_probabilities(loaded, trees, TEMPERATURE, token_budget=2 * PROMPTS * length))
    served = torch.tensor([value for sample in samples for value in sample.log_probabilities])
    return float((own - served).abs().mean())
