"""Attention of one new token in every row, with keys and values of the prompt stored once for all its responses.

What decoding waits for is memory. A prompt's keys that are read once for its G responses save almost G times the time
of reading them, and bfloat16 halves it: a prompt's keys lie in one piece, as torch's bfloat16 products want them. The
rows' own lie in room for more, of which those products would make a copy: they are float32. torch's own attention takes
several times as long for a single query.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class PromptGroups:
    """Which rows answer the same of P prompts: ``places`` [rows] says where a row stands in P x ``size`` places.

    ``places`` is None where every place is taken and rows are in order.
    """

    prompts: int
    size: int
    places: Tensor | None

    @classmethod
    def of(cls, prompt_of_row: Tensor) -> "PromptGroups":
        """Group rows by the number of their prompt, [rows]; every prompt from 0 to the largest has a row."""
        counts = torch.bincount(prompt_of_row)
        prompts, size = len(counts), int(counts.max())
        order = prompt_of_row.argsort(stable=True)
        within = torch.arange(len(order)) - (counts.cumsum(0) - counts)[prompt_of_row[order]]
        places = torch.empty_like(order)
        places[order] = prompt_of_row[order] * size + within
        in_order = len(order) == prompts * size and bool((places.diff() == 1).all())
        return cls(prompts, size, None if in_order else places)

    def gather(self, rows: Tensor) -> Tensor:
        """Turn [rows, heads, queries, any] into [P, heads, size x queries, any]; places without a row hold zeros."""
        if self.places is not None:
            rows = rows.new_zeros(self.prompts * self.size, *rows.shape[1:]).index_copy_(0, self.places, rows)
        _, heads, queries, width = rows.shape
        grouped = rows.view(self.prompts, self.size, heads, queries, width).transpose(1, 2)
        return grouped.reshape(self.prompts, heads, self.size * queries, width)

    def scatter(self, grouped: Tensor) -> Tensor:
        """Undo ``gather``."""
        prompts, heads, queries, width = grouped.shape
        rows = grouped.view(prompts, heads, self.size, queries // self.size, width).transpose(1, 2)
        rows = rows.reshape(prompts * self.size, heads, queries // self.size, width)
        return rows if self.places is None else rows[self.places]


@dataclass
class SharedPrompt:
    """Keys and values [P, key heads, length, head size] of P prompts, and the rows that go on from each."""

    keys: Tensor
    values: Tensor
    groups: PromptGroups


class CachedKeys:
    """What a cache layer fastens to its keys, as ``plaudit_cache``, to meet them again in ``attend``.

    ``reached`` is set when keys arrive there as the cache gave them. ``prompt`` holds what precedes the keys where
    ``decode`` is to attend.
    """

    def __init__(self, prompt: SharedPrompt | None = None) -> None:
        self.reached = False
        self.prompt = prompt


def cached_keys(key: Tensor) -> CachedKeys | None:
    """Return what a cache layer has fastened to keys, and note that they arrived."""
    cached: CachedKeys | None = getattr(key, "plaudit_cache", None)
    if cached is not None:
        cached.reached = True
    return cached


def decode(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, prompt: SharedPrompt
) -> Tensor:
    """Return attention's output [rows, 1, heads, head size] for one token of every row.

    ``query`` [rows, heads, 1, head size]; ``key`` [rows, key heads, length, head size] float32 (or wider), ``value``
    like it in any type, after the prompt's; ``mask`` bool [rows, 1, 1, length with the prompt]. The heads that share a
    key head are the rows of one matrix, so keys are not repeated.
    """
    rows, heads, _, size = query.shape
    groups, own = prompt.groups, key.shape[2]
    with torch.autocast("cpu", enabled=False):
        queries = query.to(key.dtype).reshape(rows, key.shape[1], heads // key.shape[1], size).mul(scale)
        before = torch.matmul(groups.gather(queries.to(prompt.keys.dtype)), prompt.keys.transpose(2, 3))
        after = torch.matmul(queries, key.transpose(2, 3))
        scores = torch.cat([groups.scatter(before).to(key.dtype), after], dim=-1)
        if mask is not None:
            scores.masked_fill_(mask.logical_not(), -torch.inf)
        shares = scores.softmax(-1).to(value.dtype)
        before = torch.matmul(groups.gather(shares[..., :-own].to(prompt.values.dtype)), prompt.values)
        attended = torch.matmul(shares[..., -own:], value) + groups.scatter(before)
    return attended.reshape(rows, 1, heads, size).to(query.dtype)
