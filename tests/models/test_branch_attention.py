"""Attention by a kernel for sequences of different lengths. The kernel needs a GPU, so the tests replace it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen
from torch.nn.functional import scaled_dot_product_attention

from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.trees import PromptTree
from plaudit.models.acceleration import varlen_attention as branch_attention
from plaudit.models.acceleration.tree_attention import use_tree_attention
from plaudit.models.acceleration.varlen_attention import kernel_fault, kernel_takes, sequences_of, tree_lengths
from plaudit.models.heads.policy import PolicyModule
from tiny_models import tiny_causal_model

CPU = torch.device("cpu")


def stand_in(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    query_ends: Tensor,
    key_ends: Tensor,
    most_queries: int,
    most_keys: int,
    *,
    scale: float,
    window_size: tuple[int, int],
    enable_gqa: bool,
) -> Tensor:
    """``varlen_attn`` as torch documents it: one sequence at a time, the last query aligned with the last key."""
    assert query_ends.dtype == key_ends.dtype == torch.int32
    assert window_size == (-1, 0)
    assert enable_gqa == (query.shape[1] != key.shape[1])
    queries, keys, values = (
        states.split(ends.diff().tolist()) for states, ends in ((query, query_ends), (key, key_ends), (value, key_ends))
    )
    assert (most_queries, most_keys) == (max(map(len, queries)), max(map(len, keys)))
    outputs = []
    for own, seen, summed in zip(queries, keys, values, strict=True):
        group = own.shape[1] // seen.shape[1]
        seen, summed = (states.repeat_interleave(group, dim=1) for states in (seen, summed))
        scores = torch.einsum("qhd,khd->hqk", own, seen) * scale
        visible = torch.ones(len(own), len(seen), dtype=torch.bool).tril(len(seen) - len(own))
        outputs.append(torch.einsum("hqk,khd->qhd", scores.masked_fill(~visible, -torch.inf).softmax(-1), summed))
    return torch.cat(outputs)


def aligned_at_the_first_key(*arguments: Any, **options: Any) -> Tensor:
    """A kernel whose first query is aligned with the first key: the same only for equal numbers of queries and keys."""
    query, key, value, query_ends, key_ends, *most = arguments
    kept = torch.cat(
        [
            torch.arange(int(start), int(start) + int(count))
            for start, count in zip(key_ends, query_ends.diff(), strict=False)
        ]
    )
    return stand_in(query, key[kept], value[kept], query_ends, query_ends, most[0], most[0], **options)


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(branch_attention, "DEVICES", ("cpu",))
    monkeypatch.setattr(branch_attention, "TYPES", (torch.float64, torch.float32, torch.bfloat16))
    monkeypatch.setattr(varlen, "varlen_attn", stand_in)
    kernel_fault.cache_clear()
    yield
    kernel_fault.cache_clear()


def forest() -> list[PromptTree]:
    """Trees with one to four responses, of lengths from one token."""
    shapes = [(4, 3, 1, 5), (1, 2), (6, 1, 1), (3, 4, 2, 2, 6), (2, 7)]
    tokens = iter(range(10**6))
    return [
        PromptTree(
            tuple(3 + next(tokens) % 30 for _ in range(prompt)),
            tuple(tuple(3 + next(tokens) % 30 for _ in range(length)) for length in lengths),
        )
        for prompt, *lengths in shapes
    ]


def test_sequences_by_hand() -> None:
    """Two rows of nine: a tree with two responses, then one with a single response; padding belongs to none."""
    trees = [PromptTree((5, 5), ((6, 6, 6), (7, 7))), PromptTree((8,), ((9, 9),))]
    lengths = [tree_lengths(tree) for tree in trees]
    assert lengths == [(2, 3, 2), (1, 2)]
    found = sequences_of([(1, 0, 7), (0, 1, 4)], lengths, 9, CPU)
    assert found.queries.tolist() == [9, 10, 11, 12, 13, 14, 15, 1, 2, 3]
    assert found.keys.tolist() == [9, 10, 11, 12, 13, 9, 10, 14, 15, 1, 2, 3]
    assert found.query_ends.tolist() == [0, 5, 7, 10]
    assert found.key_ends.tolist() == [0, 5, 9, 12]
    assert (found.most_queries, found.most_keys) == (5, 5)


def builders() -> list[Callable[[], Batch]]:
    return list(make_batches(forest(), PACKED, 60, 30))


def loss_and_gradients(model: Any) -> list[Tensor]:
    module = PolicyModule(model)
    model.zero_grad()
    losses = []
    for build in builders():
        log_probabilities = module(build()).statistics.log_probabilities
        losses.append((log_probabilities * torch.linspace(-1, 1, len(log_probabilities))).sum())
        losses[-1].backward()
    return [torch.stack(losses).detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])  # with key heads for groups of queries, and without
@pytest.mark.usefixtures("on_cpu")
def test_equals_attention_under_a_mask(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_causal_model(architecture, dtype=torch.float64)
    model.set_attn_implementation("sdpa")
    wanted = loss_and_gradients(model)
    calls: list[int] = []

    def counted(*arguments: Any, **options: Any) -> Tensor:
        calls.append(1)
        return stand_in(*arguments, **options)

    monkeypatch.setattr(varlen, "varlen_attn", counted)
    use_tree_attention(model)
    found = loss_and_gradients(model)
    assert len(calls) == model.config.num_hidden_layers * len(builders()) + 1  # the trial
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.usefixtures("on_cpu")
def test_only_a_kernel_that_passes_its_trial_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    states = [torch.zeros(1, heads, 7, 8, dtype=torch.bfloat16) for heads in (4, 2, 2)]
    assert kernel_takes(*states)

    def missing(*_: Any, **__: Any) -> Tensor:
        raise RuntimeError("FlashAttention only supports Ampere GPUs or newer")

    for wrong in (missing, aligned_at_the_first_key, lambda *given, **options: stand_in(*given, **options) * 1.1):
        kernel_fault.cache_clear()
        monkeypatch.setattr(varlen, "varlen_attn", wrong)
        assert not kernel_takes(*states)


@pytest.mark.usefixtures("on_cpu")
def test_the_trial_compares_with_float32_and_gradients_wherever_it_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    types = []

    def watched(*arguments: Any, **options: Any) -> Tensor:
        output = scaled_dot_product_attention(*arguments, **options)
        types.append((output.dtype, output.requires_grad))
        return output

    monkeypatch.setattr(branch_attention, "scaled_dot_product_attention", watched)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        assert kernel_takes(*torch.zeros(3, 1, 4, 7, 8, dtype=torch.bfloat16))
    assert types == [(torch.float32, True)]


def test_without_a_gpu_it_is_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(branch_attention, "kernel_fault", lambda *_: pytest.fail("was tried"))
    assert not kernel_takes(*torch.zeros(3, 1, 4, 7, 8, dtype=torch.bfloat16))
