"""Attention over packed trees on a GPU, with torch's FlashAttention kernel for sequences of different lengths.

A prompt with its first response is one causal sequence. Every further response is a sequence of queries whose keys are
the prompt's and its own. The kernel aligns the last query with the last key, so each query attends to the whole prompt
and to its own response up to itself. The kernel computes no masked scores and reads no mask.

A trial decides whether the kernel gives correct results on this device and in this type.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from plaudit.batching.batches import TreeSpan
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.trees import PromptTree
from plaudit.errors import one_line
from plaudit.memory import is_out_of_memory

DEVICES = ("cuda",)
TYPES = (torch.bfloat16, torch.float16)
TOLERANCE = 0.02  # of the root mean square; bfloat16 rounds to 0.004, another alignment is off by about 1
KERNEL_FAULTS = (RuntimeError, ImportError, AttributeError, TypeError, ValueError, AssertionError)
"""What torch raises where it lacks the kernel, or the kernel takes no such tensors."""
TRIAL_TREES = ((5, 4, 2, 3), (3, 6), (1, 1, 7))  # tokens of a prompt and of its responses


@dataclass(frozen=True)
class Sequences:
    """Sequences of queries and keys: their flat positions ``queries`` and ``keys`` in [rows x length].

    ``query_ends`` and ``key_ends``, int32 [sequences + 1]: a 0, followed by the cumulative length at the end of each
    sequence.
    """

    queries: Tensor
    keys: Tensor
    query_ends: Tensor
    key_ends: Tensor
    most_queries: int
    most_keys: int


def tree_lengths(tree: PromptTree) -> tuple[int, ...]:
    """Return the number of tokens of a tree's prompt and of each of its responses."""
    return len(tree.prompt), *map(len, tree.responses)


def sequences_of(
    spans: Sequence[TreeSpan], lengths: Sequence[Sequence[int]], row_length: int, device: torch.device
) -> Sequences:
    """Return the sequences of the trees at ``spans``; ``lengths``: tokens of each tree's prompt and responses."""
    queries: list[range] = []
    keys: list[list[range]] = []
    for (row, start, _), (prompt_length, *responses) in zip(spans, lengths, strict=True):
        first = row * row_length + start
        end = first + prompt_length + sum(responses[:1])
        queries.append(range(first, end))
        keys.append([range(first, end)])
        for length in responses[1:]:
            own = range(end, end + length)
            queries.append(own)
            keys.append([range(first, first + prompt_length), own])
            end += length
    query_counts = [len(part) for part in queries]
    key_counts = [sum(map(len, parts)) for parts in keys]
    return Sequences(
        queries=torch.tensor([position for part in queries for position in part], device=device),
        keys=torch.tensor([position for parts in keys for part in parts for position in part], device=device),
        query_ends=_ends(query_counts, device),
        key_ends=_ends(key_counts, device),
        most_queries=max(query_counts),
        most_keys=max(key_counts),
    )


def _ends(counts: Sequence[int], device: torch.device) -> Tensor:
    return torch.tensor([0, *counts], device=device).cumsum(0, dtype=torch.int32)


def attend_by_sequences(query: Tensor, key: Tensor, value: Tensor, sequences: Sequences, scale: float) -> Tensor:
    """Return attention's output [rows, length, heads, head size], zero outside of trees.

    ``query`` [rows, heads, length, head size]; ``key`` and ``value`` may have fewer heads, each for a group of query
    heads.
    """
    from torch.nn.attention.varlen import varlen_attn

    rows, heads, length, size = query.shape
    queries = query.transpose(1, 2).flatten(0, 1)[sequences.queries]
    keys, values = (states.transpose(1, 2).flatten(0, 1)[sequences.keys] for states in (key, value))
    attended = varlen_attn(
        queries,
        keys,
        values,
        sequences.query_ends,
        sequences.key_ends,
        sequences.most_queries,
        sequences.most_keys,
        scale=scale,
        window_size=(-1, 0),
        enable_gqa=heads != key.shape[1],
    )
    assert isinstance(attended, Tensor)
    output = attended.new_zeros(rows * length, heads, size)
    return output.index_copy(0, sequences.queries, attended).view(rows, length, heads, size)


def kernel_takes(query: Tensor, key: Tensor, value: Tensor) -> bool:
    """Return whether the kernel gives correct results for this device, type, number of heads and head size."""
    if query.device.type not in DEVICES or value.dtype not in TYPES:
        return False
    return kernel_fault(query.device, value.dtype, query.shape[1], key.shape[1], query.shape[-1]) is None


@cache
def kernel_fault(device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, size: int) -> str | None:
    """Return why the kernel cannot be used for this number of heads of this size, or None if it can."""
    # A caller's autocast would round the expected results; its inference mode would not allow gradients.
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        return _difference_from_mask(device, dtype, heads, key_heads, size)


def _difference_from_mask(
    device: torch.device, dtype: torch.dtype, heads: int, key_heads: int, size: int
) -> str | None:
    """Compare the kernel on small trees with float32 attention under the mask of their packed batch."""
    trees = [PromptTree((0,) * prompt, tuple((0,) * length for length in lengths)) for prompt, *lengths in TRIAL_TREES]
    batch = PACKED.build(trees, [[0, 1], [2]]).to(device)
    rows, length = batch.input_ids.shape
    sequences = sequences_of(batch.tree_spans, [tree_lengths(tree) for tree in trees], length, device)
    generator = torch.Generator().manual_seed(0)
    states = [
        torch.randn(rows, count, length, size, generator=generator).to(device, dtype)
        for count in (heads, key_heads, key_heads)
    ]

    def under_mask(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        output = scaled_dot_product_attention(
            query, key, value, batch.dense_mask(), scale=0.2, enable_gqa=heads != key_heads
        )
        return output.transpose(1, 2)

    def by_kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return attend_by_sequences(query, key, value, sequences, 0.2)

    wanted = _results(under_mask, [part.float() for part in states], sequences.queries)
    try:
        found = _results(by_kernel, states, sequences.queries)
    except KERNEL_FAULTS as fault:
        if is_out_of_memory(fault):
            raise
        return one_line(fault)
    pairs = zip(found, wanted, strict=True)
    differences = [float((one.float() - other).norm() / other.norm()) for one, other in pairs]
    if all(difference < TOLERANCE for difference in differences):
        return None
    return f"it differs from attention under a mask by {max(differences):.1e} in a trial"


def _results(attend: Callable[..., Tensor], states: list[Tensor], positions: Tensor) -> list[Tensor]:
    """Return the output at flat ``positions``, and the gradients of its weighted sum with respect to all states."""
    leaves = [part.detach().clone().requires_grad_() for part in states]
    output = attend(*leaves).flatten(0, 1)[positions]
    weights = torch.linspace(-1, 1, output.numel(), device=output.device).view_as(output)
    return [output.detach(), *torch.autograd.grad((output * weights).sum(), leaves)]
