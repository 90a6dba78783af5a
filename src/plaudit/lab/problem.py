"""A problem of the laboratory: two prompts, every response to them, and a random reward for each.

A response is any string of letters up to the length limit: shorter ones end with the EOS token, those that reach the
limit are cut. The tokenizer has one token per letter and EOS, so text and tokens determine each other.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plaudit.batching.trees import PromptTree
from plaudit.seeding import torch_generator

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

LETTERS = "ab"
END = "<eos>"
END_ID = 0
MAX_TOKENS = 3
# Neither is a prefix of the other, so a prompt with a response never equals the other prompt with a response.
PROMPTS = ("a", "ba")
BETAS = (1.0, 0.6, 2.0, 0.5, 1.5)
"""KL coefficient of each problem: a large one keeps the optimum near the reference, a small one does not."""


@dataclass(frozen=True)
class Problem:
    """``number`` determines the rewards, the reference model (see ``reference``) and the KL coefficient."""

    number: int

    @property
    def beta(self) -> float:
        """The cost of one nat of KL, in units of reward."""
        return BETAS[self.number % len(BETAS)]

    @property
    def rewards(self) -> Tensor:
        """The reward of every response to every prompt, float64 [prompts, responses]."""
        return reward_table(self.number)


def responses() -> Iterator[tuple[int, ...]]:
    """Yield the token ids of every response, the shortest first."""
    letters = range(END_ID + 1, END_ID + 1 + len(LETTERS))
    for length in range(MAX_TOKENS):
        for text in product(letters, repeat=length):
            yield (*text, END_ID)
    yield from product(letters, repeat=MAX_TOKENS)


def complete_trees() -> list[PromptTree]:
    """Return every prompt with every response."""
    return [PromptTree(prompt_ids(prompt), tuple(responses())) for prompt in PROMPTS]


def prompt_ids(prompt: str) -> tuple[int, ...]:
    """Return the token ids of a string of letters."""
    return tuple(LETTERS.index(letter) + END_ID + 1 for letter in prompt)


def text_of(response: Sequence[int]) -> str:
    """Return the letters of a response."""
    return "".join(LETTERS[token - END_ID - 1] for token in response if token != END_ID)


@cache
def reward_table(number: int) -> Tensor:
    """Return independent draws of N(0, 1), float64 [prompts, responses]."""
    shape = (len(PROMPTS), len(list(responses())))
    return torch.randn(shape, generator=torch_generator(number, "rewards"), dtype=torch.float64)


def table_reward(prompts: Sequence[str], responses: Sequence[str], fields: Sequence[Mapping[str, Any]]) -> list[float]:
    """Look rewards up, as a reward source of kind ``function``; the prompts' rows name their ``problem``."""
    rows = zip(prompts, responses, fields, strict=True)
    return [_reward_by_text(row["problem"])[prompt, response] for prompt, response, row in rows]


@cache
def _reward_by_text(number: int) -> dict[tuple[str, str], float]:
    texts = [text_of(response) for response in responses()]
    rows = zip(PROMPTS, reward_table(number).tolist(), strict=True)
    return {(prompt, text): reward for prompt, row in rows for text, reward in zip(texts, row, strict=True)}


def make_tokenizer() -> "PreTrainedTokenizerFast":
    """Return a tokenizer with one token per letter plus EOS, which is also the padding token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = {letter: number for number, letter in enumerate(LETTERS, start=END_ID + 1)}
    tokenizer = Tokenizer(models.WordLevel({END: END_ID, **letters}, END))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
