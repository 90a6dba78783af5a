"""Attention computed per tree equals attention under the whole row's mask: states, gradients, recomputation."""

from typing import Any

import pytest
import torch
from torch import Tensor

from forests import PACKABLE, forest
from plaudit.batching.batches import Batch, TreeMask, make_batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.models.acceleration import tree_attention as attention
from plaudit.models.acceleration.forward import recompute_activations
from plaudit.models.acceleration.install import install
from plaudit.models.acceleration.tree_attention import TREE_ATTENTION, tree_layout, use_tree_attention
from plaudit.models.heads.policy import PolicyModule
from tiny_models import tiny_causal_model


def batches(always: bool) -> list[Batch]:
    made = [build() for build in make_batches(forest(), PACKED, 64, 32)]
    for batch in made:
        tree_layout(batch, always)
    return made


def loss_and_gradients(model: Any, forest: list[Batch]) -> list[Tensor]:
    module = PolicyModule(model)
    model.zero_grad()
    losses = []
    for batch in forest:
        log_probabilities = module(batch).statistics.log_probabilities
        losses.append((log_probabilities * torch.linspace(-1, 1, len(log_probabilities))).sum())
        losses[-1].backward()
    return [torch.stack(losses).sum().detach(), *(parameter.grad.clone() for parameter in model.parameters())]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Count the forward passes through attention by trees, by appending to a list."""
    counted: list[int] = []
    original = attention._TreeAttention.forward

    def forward(*arguments: Any) -> Tensor:
        counted.append(1)
        return original(*arguments)

    monkeypatch.setattr(attention._TreeAttention, "forward", forward)
    return counted


@pytest.mark.parametrize("architecture", PACKABLE)
def test_equals_attention_under_a_mask(architecture: str, calls: list[int]) -> None:
    model = tiny_causal_model(architecture, dtype=torch.float64)
    model.set_attn_implementation("sdpa")
    expected = loss_and_gradients(model, batches(always=False))
    assert not calls
    use_tree_attention(model)
    found = loss_and_gradients(model, batches(always=True))
    assert len(calls) == model.config.num_hidden_layers * len(batches(True))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("longest_kept", [0, 10, 10**4])
@pytest.mark.parametrize("queries", [1, 4, 5])
def test_blocks_of_queries_change_nothing(monkeypatch: pytest.MonkeyPatch, queries: int, longest_kept: int) -> None:
    """Blocks that end with a tree and blocks that do not; probabilities kept, recomputed, or both."""
    model = tiny_causal_model("llama", dtype=torch.float64)
    use_tree_attention(model)
    expected = loss_and_gradients(model, batches(always=True))
    monkeypatch.setattr(attention, "QUERIES", queries)
    monkeypatch.setattr(attention, "LONGEST_KEPT", longest_kept)
    for one, other in zip(loss_and_gradients(model, batches(always=True)), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


def one_tree(length: int) -> attention.TreeLayout:
    """A prompt that fills a row."""
    mask = TreeMask(*torch.zeros(2, 1, length, dtype=torch.long))
    return attention.TreeLayout([(0, 0, length)], mask, always=True)


def attended(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
    """One causal row of one tree; output and gradients of a fixed sum."""
    parts = [part.clone().requires_grad_() for part in (query, key, value)]
    length = query.shape[2]
    output = attention._TreeAttention.apply(*parts, one_tree(length).trees(value.dtype), 0.5)
    (output * torch.linspace(-1, 1, output.numel()).view_as(output)).sum().backward()
    return (output.detach(), *(part.grad for part in parts if part.grad is not None))


def test_sums_over_blocks_do_not_round_in_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key's gradient is a sum over many blocks: in bfloat16 small parts would be lost."""
    generator = torch.Generator().manual_seed(0)
    exact = [torch.randn(1, 2, 256, 8, generator=generator).double() for _ in range(3)]
    monkeypatch.setattr(attention, "QUERIES", 10**4)
    wanted = attended(*exact)
    rough = [part.bfloat16() for part in exact]
    errors = []
    for queries in (10**4, 4):
        monkeypatch.setattr(attention, "QUERIES", queries)
        found = attended(*rough)
        errors.append([float((one - other).norm() / other.norm()) for one, other in zip(found, wanted, strict=True)])
    assert all(many < 1.1 * once + 1e-4 for once, many in zip(*errors, strict=True))


def test_recomputed_activations_change_nothing(calls: list[int]) -> None:
    model = tiny_causal_model("llama", dtype=torch.float64)
    use_tree_attention(model)
    expected = loss_and_gradients(model, batches(always=True))
    once = len(calls)
    recompute_activations(model.train())
    found = loss_and_gradients(model, batches(always=True))
    assert len(calls) == 3 * once
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_small_work_long_trees_and_padded_batches_use_the_ordinary_path(
    calls: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_causal_model("llama")
    use_tree_attention(model)
    loss_and_gradients(model, batches(always=False))
    loss_and_gradients(model, [PADDED.build(forest(), range(3))])
    monkeypatch.setattr(attention, "LONGEST_TREE", 5)
    loss_and_gradients(model, batches(always=True))
    assert not calls
    monkeypatch.setattr(attention, "LONGEST_TREE", 1024)
    monkeypatch.setattr(attention, "LEAST_WORK", 1)
    loss_and_gradients(model, batches(always=False))
    assert calls


def test_the_trial_chooses_it_where_the_architecture_allows() -> None:
    for architecture in PACKABLE:
        model = tiny_causal_model(architecture)
        assert install(model).layout is PACKED
        assert model.config._attn_implementation == TREE_ATTENTION
    model = tiny_causal_model("bloom")
    assert install(model).layout is PADDED
    assert model.config._attn_implementation != TREE_ATTENTION


def test_bfloat16_is_as_close_to_float32_as_attention_under_a_mask() -> None:
    """Measured: root mean square differences of log-probabilities of 0.019 tree by tree, 0.017 under a mask."""
    model = tiny_causal_model("llama")
    exact = torch.cat([PolicyModule(model)(batch).statistics.log_probabilities for batch in batches(always=False)])
    errors = {}
    for name in ("sdpa", TREE_ATTENTION):
        if name == TREE_ATTENTION:
            use_tree_attention(model)
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            rough = [PolicyModule(model)(batch).statistics.log_probabilities for batch in batches(always=True)]
        errors[name] = float((torch.cat(rough) - exact).pow(2).mean().sqrt())
    assert 0 < errors[TREE_ATTENTION] < 1.5 * errors["sdpa"] < 0.1


def test_models_that_cap_their_scores_keep_their_own_attention(calls: list[int]) -> None:
    model = tiny_causal_model("gemma2")
    before = model.config._attn_implementation
    install(model)
    assert model.config._attn_implementation == before
    assert not calls


def test_a_second_derivative_is_refused() -> None:
    query, key, value = (torch.randn(1, 2, 6, 4, requires_grad=True) for _ in range(3))
    output = attention._TreeAttention.apply(query, key, value, one_tree(6).trees(value.dtype), 0.5)
    (gradient,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()
