"""Shared by the tests of ``algorithms``: random padded batches and rankings, garbage for masked positions, settings."""

from typing import NamedTuple

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor

from plaudit.seeding import torch_generator

property_test = settings(deadline=None, max_examples=25, derandomize=True)


class Padded(NamedTuple):
    """Lengths of responses, their left-aligned mask [responses, time], and a seed for values."""

    lengths: list[int]
    mask: Tensor
    seed: int

    def values(self, name: str) -> Tensor:
        """Standard normal float64 values, [responses, time], different for every name."""
        generator = torch_generator(self.seed, name)
        return torch.randn(self.mask.shape, generator=generator, dtype=torch.float64)

    def scores(self) -> Tensor:
        """Standard normal float64 values, [responses]."""
        return torch.randn(len(self.lengths), generator=torch_generator(self.seed, "scores"), dtype=torch.float64)

    def soiled(self, values: Tensor) -> Tensor:
        """The same values with garbage at masked positions: NaN, infinities, huge numbers."""
        garbage = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30], dtype=values.dtype)
        return torch.where(self.mask, values, garbage[torch.arange(values.numel()) % 5].reshape(values.shape))


def left_aligned(lengths: list[int], time: int) -> Tensor:
    """The mask of responses with these lengths."""
    return torch.arange(time)[None, :] < torch.tensor(lengths, dtype=torch.long)[:, None]


@st.composite
def padded_batches(draw: st.DrawFn) -> Padded:
    """1 to 5 responses of 0 to 6 tokens, padded to 6 or 7, at least one token in all."""
    lengths = draw(st.lists(st.integers(0, 6), min_size=1, max_size=5).filter(any))
    return Padded(lengths, left_aligned(lengths, draw(st.integers(6, 7))), draw(st.integers(0, 10**6)))


class Ranked(NamedTuple):
    """Flat responses of prompts of different sizes: scores float64, prompt of each, ranks; all [responses]."""

    scores: Tensor
    prompts: Tensor
    ranks: Tensor


@st.composite
def ranked_responses(draw: st.DrawFn) -> Ranked:
    """1 to 5 prompts with 1 to 5 responses each, ranks 0 to 3 with ties, in shuffled order."""
    prompts = [prompt for prompt in range(draw(st.integers(1, 5))) for _ in range(draw(st.integers(1, 5)))]
    prompts = draw(st.permutations(prompts))
    ranks = draw(st.lists(st.integers(0, 3), min_size=len(prompts), max_size=len(prompts)))
    generator = torch_generator(draw(st.integers(0, 10**6)), "ranked")
    scores = torch.randn(len(prompts), generator=generator, dtype=torch.float64)
    return Ranked(scores, torch.tensor(prompts), torch.tensor(ranks))
