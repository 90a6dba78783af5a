"""Attention of one token to a cache whose prompts are stored once, against softmax attention in float64."""

import os

import pytest
import torch

from plaudit.models.acceleration.cached_attention import RowStates, decode

ROOM = 6


def plain(query: torch.Tensor, states: RowStates, mask: torch.Tensor) -> torch.Tensor:
    """Attention in float64 over all columns, keys repeated for every head: [rows, 1, heads, head size]."""
    groups = query.shape[1] // states.keys.shape[1]
    rows, own = states.prompt_of_row, slice(states.length)
    key = torch.cat([states.prompt_keys[rows], states.keys[:, :, own]], dim=2)
    value = torch.cat([states.prompt_values[rows], states.values[:, :, own]], dim=2)
    key, value = (numbers.double().repeat_interleave(groups, dim=1) for numbers in (key, value))
    scores = query.double() @ key.transpose(2, 3) * 0.3
    return (scores.masked_fill(~mask, -torch.inf).softmax(-1) @ value).transpose(1, 2)


def random_states(prompt_of_row: list[int], key_heads: int, dtype: torch.dtype, length: int = 3) -> RowStates:
    generator = torch.Generator().manual_seed(0)
    rows, prompts, before, size = len(prompt_of_row), max(prompt_of_row) + 1, 5, 8
    shared = torch.randn(2, prompts, key_heads, before, size, generator=generator).to(dtype)
    own = torch.randn(2, rows, key_heads, ROOM, size, generator=generator).to(dtype)
    own[:, :, :, length:] = torch.nan
    return RowStates(shared[0], shared[1], torch.tensor(prompt_of_row), own[0], own[1], length)


def random_query(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(6, 4, 1, 8, generator=torch.Generator().manual_seed(1)).to(dtype)


@pytest.mark.parametrize("prompt_of_row", [[0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5], [1, 0, 2, 1, 1, 0]])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_shared_prompts_change_nothing(prompt_of_row: list[int], key_heads: int, dtype: torch.dtype) -> None:
    states, query = random_states(prompt_of_row, key_heads, dtype), random_query()
    mask = torch.ones(6, 1, 1, 8, dtype=torch.bool)
    mask[:, :, :, :2] = (states.prompt_of_row % 2 == 0)[:, None, None, None]
    attended = decode(query, mask, 0.3, states)
    assert attended.dtype == query.dtype
    torch.testing.assert_close(attended, plain(query, states, mask).float(), atol=1e-6, rtol=1e-5)


def test_float64_stays_float64() -> None:
    states, query = random_states([0, 0, 0, 1, 1, 1], 2, torch.float64), random_query(torch.float64)
    mask = torch.ones(6, 1, 1, 8, dtype=torch.bool)
    torch.testing.assert_close(decode(query, None, 0.3, states), plain(query, states, mask), atol=1e-14, rtol=1e-13)


def test_non_finite_numbers_are_not_hidden() -> None:
    """A softmax that turned NaN into finite numbers would let a broken model continue."""
    query = random_query()
    query[2, 1, 0, 3] = torch.nan
    attended = decode(query, None, 0.3, random_states([0, 0, 0, 1, 1, 1], 4, torch.float32))
    broken = attended.isnan().any(-1)[:, 0]
    assert broken.nonzero().tolist() == [[2, 1]]
    states = random_states([0, 0, 0, 1, 1, 1], 4, torch.float32)
    states.values[4, 2, 0, 1] = torch.inf
    assert decode(random_query(), None, 0.3, states).isinf().nonzero().tolist() == [[4, 0, 2, 1]]


@pytest.mark.parametrize("threads", [1, (os.cpu_count() or 1) + 1])
def test_the_number_of_threads_stays_that_of_torch(threads: int) -> None:
    """Also with more threads than numba supports, which its first call would reduce."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    decode(random_query(), None, 0.3, random_states([0, 0, 0, 1, 1, 1], 4, torch.float32))
    assert torch.get_num_threads() == threads
    torch.set_num_threads(before)
