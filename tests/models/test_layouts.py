"""Packed equals padded equals plain transformers: log-probabilities, values, scores, losses and gradients."""

import pytest
import torch
from torch import Tensor

from forests import PACKABLE, forest, in_tree_order, layouts, plain_log_probabilities, response_numbers
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.layouts.padded import PADDED
from plaudit.models.acceleration.install import install
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import ScoreModule, ValueModule, scalar_head
from tiny_models import tiny_causal_model, tiny_classifier


@pytest.mark.parametrize("architecture", PACKABLE)
def test_log_probabilities_and_gradients_equal_plain_transformers(architecture: str) -> None:
    model = tiny_causal_model(architecture, dtype=torch.float64)
    trees = forest()
    expected = plain_log_probabilities(model, trees)
    weights = [torch.linspace(-1, 1, len(part), dtype=torch.float64) for part in expected]
    expected_loss = torch.stack([(w * part).sum() for w, part in zip(weights, expected, strict=True)]).sum()
    expected_gradients = torch.autograd.grad(expected_loss, list(model.parameters()))
    module = PolicyModule(model)
    for batches in layouts(trees).values():
        model.zero_grad()
        found: dict[int, Tensor] = {}
        for batch in batches:
            log_probabilities = module(batch).statistics.log_probabilities
            parts = log_probabilities.split(batch.lengths.tolist())
            numbers = response_numbers(trees, batch)
            found |= dict(zip(numbers, parts, strict=True))
            torch.stack([(weights[n] * part).sum() for n, part in zip(numbers, parts, strict=True)]).sum().backward()
        for number, part in enumerate(expected):
            torch.testing.assert_close(found[number], part, rtol=1e-5, atol=1e-5)
        for parameter, gradient in zip(model.parameters(), expected_gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", PACKABLE)
def test_scores_and_values_equal_plain_transformers(architecture: str) -> None:
    model = tiny_classifier(architecture, dtype=torch.float64)
    trees = forest(seed=1)
    expected_scores, expected_values = [], []
    for tree in trees:
        for response in tree.responses:
            sequence = torch.tensor([tree.prompt + response])
            expected_scores.append(model(sequence).logits[0, 0])
            states = model.base_model(sequence).last_hidden_state[0]
            expected_values.append(model.score(states)[len(tree.prompt) - 1 : -1, 0])
    score, value = ScoreModule(model), ValueModule(model)
    for batch in (PACKED.build(trees, [range(3), range(3, 7)]), PADDED.build(trees, range(7))):
        numbers = response_numbers(trees, batch)
        scores = score(batch).double()
        torch.testing.assert_close(scores, torch.stack([expected_scores[n] for n in numbers]), rtol=1e-5, atol=1e-5)
        for part, number in zip(value(batch).split(batch.lengths.tolist()), numbers, strict=True):
            torch.testing.assert_close(part.double(), expected_values[number], rtol=1e-5, atol=1e-5)


def test_shared_values_read_the_state_before_each_token() -> None:
    model = tiny_causal_model("llama", dtype=torch.float64)
    head = scalar_head(16, 1.0).double()
    trees = forest(seed=2)
    batch = PACKED.build(trees, [range(7)])
    values = in_tree_order(batch, PolicyModule(model, head)(batch).values)
    tree = trees[0]
    states = model.base_model(torch.tensor([tree.prompt + tree.responses[0]])).last_hidden_state[0]
    torch.testing.assert_close(values[0].double(), head(states)[len(tree.prompt) - 1 : -1, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture, packed", [("llama", True), ("gemma2", False)])
def test_chunks_of_the_head_change_neither_values_nor_gradients(
    monkeypatch: pytest.MonkeyPatch, architecture: str, packed: bool
) -> None:
    model = tiny_causal_model(architecture, dtype=torch.float64)
    batch = PACKED.build(forest(), [range(7)]) if packed else PADDED.build(forest(), range(7))

    def run() -> tuple[Tensor, ...]:
        output = PolicyModule(model)(batch, 0.7, "differentiable").statistics
        loss = output.log_probabilities.sum() + 0.3 * output.entropies.square().sum()
        return (output.log_probabilities, output.entropies, *torch.autograd.grad(loss, list(model.parameters())))

    whole = run()
    monkeypatch.setattr("plaudit.models.heads.log_probabilities.LOGIT_BYTES", 0)
    monkeypatch.setattr("plaudit.models.heads.log_probabilities.SMALLEST_CHUNK", 5)
    for expected, found in zip(whole, run(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("architecture", PACKABLE)
def test_packable_models_are_packed(architecture: str) -> None:
    assert install(tiny_causal_model(architecture)).layout is PACKED
    assert install(tiny_causal_model(architecture).bfloat16()).layout is PACKED
    assert install(tiny_causal_model(architecture), "padded").layout is PADDED
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert install(tiny_causal_model(architecture), "packed").layout is PACKED


@pytest.mark.parametrize("architecture", ["bloom", "mistral"])
def test_models_that_reject_a_tree_mask_are_padded(architecture: str) -> None:
    found = install(tiny_causal_model(architecture), "packed")
    assert found.layout is PADDED
    assert "layout packed" in str(found.layout_reason)


@pytest.mark.parametrize("architecture", ["bloom", "mistral"])
def test_padded_layout_equals_plain_transformers(architecture: str) -> None:
    model = tiny_causal_model(architecture, dtype=torch.float64)
    trees = forest()
    batch = PADDED.build(trees, range(7))
    found = in_tree_order(batch, PolicyModule(model)(batch).statistics.log_probabilities)
    for part, expected in zip(found, plain_log_probabilities(model, trees), strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-5, atol=1e-5)
