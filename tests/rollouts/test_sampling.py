"""Choosing tokens, against distributions worked out by hand and by transformers' own warpers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import TopKLogitsWarper, TopPLogitsWarper

from plaudit.config.schema import GenerationConfig
from plaudit.rollouts.samples import Request
from plaudit.rollouts.sampling import BLOCK, choose_tokens, draw_limits, draw_uniforms

EVENLY = (torch.arange(10_000) + 0.5) / 10_000  # a perfect sample of the uniform distribution


def frequencies(logits: torch.Tensor, config: GenerationConfig, forbidden: torch.Tensor | None = None) -> torch.Tensor:
    tokens = choose_tokens(logits.expand(len(EVENLY), -1), EVENLY, config, forbidden).tokens
    return torch.bincount(tokens, minlength=len(logits)) / len(EVENLY)


def test_probabilities_by_hand() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    expected = [
        (GenerationConfig(), [0.1, 0.4, 0.2, 0.3]),
        (GenerationConfig(temperature=0.5), [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        (GenerationConfig(top_k=2), [0, 4 / 7, 0, 3 / 7]),
        (GenerationConfig(top_p=0.65), [0, 4 / 7, 0, 3 / 7]),
        (GenerationConfig(top_p=0.75), [0, 4 / 9, 2 / 9, 3 / 9]),
        (GenerationConfig(top_p=0.01), [0, 1, 0, 0]),
        (GenerationConfig(top_k=2, top_p=0.5), [0, 1, 0, 0]),
        (GenerationConfig(top_k=99), [0.1, 0.4, 0.2, 0.3]),
        (GenerationConfig(temperature=0), [0, 1, 0, 0]),
    ]
    for config, wanted in expected:
        torch.testing.assert_close(
            frequencies(logits, config), torch.tensor(wanted, dtype=torch.float32), atol=2e-4, rtol=0
        )


def test_forbidden_tokens_leave_their_probability_to_the_others() -> None:
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    forbidden = torch.tensor([1])
    for config, wanted in (
        (GenerationConfig(), [1 / 6, 0, 2 / 6, 3 / 6]),
        (GenerationConfig(top_k=1), [0, 0, 0, 1]),
        (GenerationConfig(temperature=0), [0, 0, 0, 1]),
    ):
        assert frequencies(logits, config, forbidden).tolist() == pytest.approx(wanted, abs=2e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30), st.floats(0.05, 0.99), st.floats(0.3, 3))
def test_filters_agree_with_transformers(seed: int, top_k: int, top_p: float, temperature: float) -> None:
    logits = torch.randn(30, generator=torch.Generator().manual_seed(seed)) * 2
    config = GenerationConfig(top_k=top_k, top_p=top_p, temperature=temperature)
    warped = TopPLogitsWarper(top_p)(None, TopKLogitsWarper(top_k)(None, logits[None] / temperature))
    wanted = warped[0].softmax(-1)
    torch.testing.assert_close(frequencies(logits, config), wanted, atol=3e-4, rtol=0)
    token, log_probability, log_share = choose_tokens(logits[None], torch.tensor([0.5]), config)
    torch.testing.assert_close((log_probability - log_share).exp(), wanted[token], atol=1e-5, rtol=1e-4)


def test_log_probabilities_are_of_the_whole_vocabulary() -> None:
    logits = torch.tensor([[0.1, 0.4, 0.2, 0.3]]).log()
    config = GenerationConfig(temperature=0.5, top_k=2)
    token, log_probability, log_share = choose_tokens(logits, torch.tensor([0.9]), config, torch.tensor([1]))
    assert token.tolist() == [2]  # among 3 (0.3) and 2 (0.2), at temperature 0.5: 9/13 and 4/13
    assert log_probability.item() == pytest.approx(math.log(4 / 30), abs=1e-6)
    assert log_share.item() == pytest.approx(math.log(13 / 30), abs=1e-6)
    greedy = choose_tokens(logits, torch.tensor([0.9]), GenerationConfig(temperature=0)).log_probabilities
    assert greedy.item() == pytest.approx(math.log(0.4), abs=1e-6)


def test_impossible_tokens_are_never_chosen_not_even_at_the_ends() -> None:
    logits = torch.full((2, 6), float("-inf"))
    logits[:, 2:4] = 0.0
    tiny_and_one = torch.tensor([2.0**-24, 1.0])
    for config in (GenerationConfig(), GenerationConfig(top_p=0.99), GenerationConfig(top_k=5)):
        tokens = choose_tokens(logits, tiny_and_one, config).tokens
        assert set(tokens.tolist()) <= {2, 3}


@pytest.mark.parametrize("vocabulary", [BLOCK - 1, BLOCK, BLOCK + 1, 1000])
def test_blocks_of_the_vocabulary_change_nothing(vocabulary: int) -> None:
    logits = 3 * torch.randn(vocabulary, generator=torch.Generator().manual_seed(vocabulary))
    rows = logits.expand(len(EVENLY), -1)
    tokens, log_probabilities, log_kept_mass = choose_tokens(rows, EVENLY, GenerationConfig(temperature=0.7))
    exact = (logits.double() / 0.7).log_softmax(-1)
    wanted = torch.searchsorted(exact.exp().cumsum(-1), EVENLY.double()).clamp(max=vocabulary - 1)
    assert (tokens != wanted).sum() <= 20, "neighbors, where a uniform number meets a border within rounding"
    torch.testing.assert_close(log_probabilities.double(), exact[tokens], atol=2e-6, rtol=0)
    assert not log_kept_mass.any()


def test_impossible_tokens_at_the_borders_of_blocks() -> None:
    """Probability on a few of thousands of tokens; uniform numbers at every boundary and at the ends."""
    logits = torch.full((3 * BLOCK + 5,), float("-inf"))
    possible = [BLOCK - 2, BLOCK + 1, 3 * BLOCK + 2]
    logits[possible] = torch.tensor([0.5, 0.3, 0.2]).log()
    borders = torch.tensor([2.0**-24, 0.5, 0.8, 1.0])
    uniforms = torch.cat([borders, borders[1:] - 2.0**-24, borders[:3] + 2.0**-24])
    tokens = choose_tokens(logits.expand(len(uniforms), -1), uniforms, GenerationConfig()).tokens
    assert set(tokens.tolist()) == set(possible)


def test_rounding_past_a_block_selects_its_last_possible_token() -> None:
    """Uniform numbers at the ends of 200 blocks, each half of tokens that cannot be chosen."""
    logits = torch.randn(200, BLOCK, generator=torch.Generator().manual_seed(0))
    logits[:, BLOCK // 2 :] = float("-inf")
    cumulative = (logits - logits.max()).exp().sum(-1).cumsum(-1)
    ends = cumulative / cumulative[-1]
    tokens = choose_tokens(logits.flatten().expand(200, -1), ends, GenerationConfig()).tokens
    assert (tokens % BLOCK < BLOCK // 2).all()


def test_uniforms_are_those_of_the_seed() -> None:
    requests = [Request((1,), "", seed) for seed in (5, 6, 5)]
    uniforms = draw_uniforms(requests, 40)
    assert uniforms.shape == (3, 40)
    assert torch.equal(uniforms[0], uniforms[2])
    assert not torch.equal(uniforms[0], uniforms[1])
    assert float(uniforms.min()) > 0
    assert float(uniforms.max()) <= 1


def test_limits() -> None:
    requests = [Request((1,), "", seed) for seed in range(300)]
    assert set(draw_limits(requests, GenerationConfig(max_new_tokens=9))) == {9}
    drawn = draw_limits(requests, GenerationConfig(max_new_tokens=4, random_length=True))
    assert set(drawn) == {1, 2, 3, 4}
    assert min(map(drawn.count, (1, 2, 3, 4))) > 45  # 75 expected, four standard deviations below
