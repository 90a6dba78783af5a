"""Log-probabilities, entropy, and the loss of language modeling."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from padded_batches import Padded, padded_batches, property_test
from plaudit.algorithms.entropy import entropy
from plaudit.algorithms.language_modeling import language_modeling_loss, likeliest_is_target
from plaudit.algorithms.log_probabilities import token_log_probabilities

LOGITS = torch.tensor([[0.0, math.log(3.0)], [math.log(8.0), math.log(2.0)]])


def test_log_probabilities_by_hand() -> None:
    # exp: (1, 3) and (8, 2). Second token of the first row: 3/4; first of the second: 8/10.
    targets = torch.tensor([1, 0])
    assert_close(token_log_probabilities(LOGITS, targets, 1.0), torch.tensor([0.75, 0.8]).log())
    # Temperature 1/2 squares the odds: 9/10 and 64/68. Temperature 2 takes their root: sqrt 3 / (1 + sqrt 3), 2/3.
    assert_close(token_log_probabilities(LOGITS, targets, 0.5), torch.tensor([0.9, 64 / 68]).log())
    assert_close(token_log_probabilities(LOGITS, targets, 2.0), torch.tensor([3**0.5 / (1 + 3**0.5), 2 / 3]).log())


def test_entropy_by_hand() -> None:
    # -(1/4 ln 1/4 + 3/4 ln 3/4) = 0.346574 + 0.215762 = 0.562335; -(0.8 ln 0.8 + 0.2 ln 0.2) = 0.178515 + 0.321888
    assert_close(entropy(LOGITS, 1.0), torch.tensor([0.562335, 0.500402]), atol=1e-6, rtol=0)
    # At temperature 1/2: 1/10 and 9/10: 0.230259 + 0.094824 = 0.325083
    assert entropy(LOGITS, 0.5)[0].item() == pytest.approx(0.325083, abs=1e-6)
    assert entropy(torch.zeros(1, 7), 1.0).item() == pytest.approx(math.log(7))


def test_forbidden_tokens() -> None:
    logits = torch.tensor([[0.0, 0.0, -torch.inf], [5.0, -torch.inf, -torch.inf]], requires_grad=True)
    result = entropy(logits, 1.0)
    assert_close(result, torch.tensor([math.log(2), 0.0]))
    (gradient,) = torch.autograd.grad(result.sum(), logits)
    assert_close(gradient, torch.zeros(2, 3))
    assert_close(token_log_probabilities(logits, torch.tensor([0, 0]), 1.0), torch.tensor([-math.log(2), 0.0]))


@pytest.mark.parametrize("temperature", [0.0, -1.0])
def test_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be positive"):
        token_log_probabilities(LOGITS, torch.tensor([0, 0]), temperature)
    with pytest.raises(ValueError, match="temperature must be positive"):
        entropy(LOGITS, temperature)


@property_test
@given(st.integers(1, 6), st.integers(1, 9), st.floats(0.2, 5), st.integers(0, 10**6))
def test_equal_to_slow_loops(tokens: int, vocabulary: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(tokens, vocabulary, generator=generator, dtype=torch.float64)
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    slow_log_probs, slow_entropy = [], []
    for row, target in zip(logits.tolist(), targets.tolist(), strict=True):
        weights = [math.exp(logit / temperature) for logit in row]
        shares = [weight / sum(weights) for weight in weights]
        slow_log_probs.append(math.log(shares[target]))
        slow_entropy.append(-sum(share * math.log(share) for share in shares))
    found = token_log_probabilities(logits, targets, temperature)
    assert_close(found, torch.tensor(slow_log_probs, dtype=torch.float64))
    assert_close(entropy(logits, temperature), torch.tensor(slow_entropy, dtype=torch.float64))
    # A constant added to a row's logits changes nothing.
    assert_close(token_log_probabilities(logits + 50, targets, temperature), found)
    assert_close(entropy(logits + 50, temperature), entropy(logits, temperature))


def test_gradients_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([4, 0, 2])
    assert torch.autograd.gradcheck(lambda x: token_log_probabilities(x, targets, 0.7), logits)
    assert torch.autograd.gradcheck(lambda x: entropy(x, 0.7), logits)


def test_bfloat16_logits_are_widened() -> None:
    logits = torch.zeros(1, 1000, dtype=torch.bfloat16)
    found = token_log_probabilities(logits, torch.tensor([5]), 1.0)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(-math.log(1000), abs=1e-6)
    assert entropy(logits, 1.0).item() == pytest.approx(math.log(1000), abs=1e-5)


def test_language_modeling_by_hand() -> None:
    # -(ln 1/2 + ln 1/4 + ln 1/8) = 6 ln 2; per token 2 ln 2, perplexity 4
    log_probs = torch.tensor([[0.5, 0.25], [0.125, 1e-9]]).log()
    mask = torch.tensor([[True, True], [True, False]])
    loss = language_modeling_loss(log_probs, mask)
    assert loss.item() == pytest.approx(6 * math.log(2))
    assert math.exp(loss.item() / mask.sum().item()) == pytest.approx(4)


def test_accuracy_by_hand() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [-1.0, -2.0, -3.0], [0.0, 0.0, 0.5]])
    assert likeliest_is_target(logits, torch.tensor([1, 0, 0])).tolist() == [True, True, False]
    tied = torch.tensor([[1.0, 1.0, 0.0]]).expand(3, 3)
    assert likeliest_is_target(tied, torch.tensor([0, 1, 2])).tolist() == [True, True, False]


@property_test
@given(padded_batches(), st.integers(0, 5))
def test_language_modeling_ignores_padding_and_splits(batch: Padded, cut: int) -> None:
    log_probs, mask = batch.values("log_probs"), batch.mask
    loss = language_modeling_loss(log_probs, mask)
    assert_close(language_modeling_loss(batch.soiled(log_probs), mask), loss, rtol=0, atol=0)
    parts = language_modeling_loss(log_probs[:cut], mask[:cut]) + language_modeling_loss(log_probs[cut:], mask[cut:])
    assert_close(parts, loss)
