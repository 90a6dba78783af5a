"""The laboratory's sampled choices: how often one response beats another, against the Bradley-Terry model."""

import pytest
import torch
from torch import Tensor

from plaudit.lab.preferences import sampled_labels, sampled_rankings
from plaudit.lab.problem import PROMPTS, Problem, prompt_ids, responses
from plaudit.seeding import torch_generator

COUNT = 6000
PROBLEM = Problem(0)


def win_shares(flips: float) -> Tensor:
    """How often response i was ranked above response j, [prompts, i, j]."""
    examples = sampled_rankings(PROBLEM, COUNT, flips, torch_generator(0, "ranking"))
    shares = []
    for prompt in PROMPTS:
        own = [example for example in examples if example.tree.prompt == prompt_ids(prompt)]
        assert all(example.tree.responses == tuple(responses()) for example in own)
        ranks = torch.tensor([example.target for example in own])
        assert (ranks.sort(1).values == torch.arange(ranks.shape[1])).all()
        shares.append((ranks[:, :, None] < ranks[:, None, :]).double().mean(0))
    return torch.stack(shares)


def probabilities() -> Tensor:
    return torch.sigmoid(PROBLEM.rewards[:, :, None] - PROBLEM.rewards[:, None, :])


@pytest.mark.parametrize("flips", [0.0, 0.1])
def test_pairs_of_a_ranking_are_bradley_terry_choices(flips: float) -> None:
    expected = (1 - flips) * probabilities() + flips * probabilities().transpose(1, 2)
    error = (expected * (1 - expected) / (COUNT / len(PROMPTS))).sqrt()
    gap = (win_shares(flips) - expected).abs()
    different = ~torch.eye(expected.shape[1], dtype=torch.bool)
    assert (gap < 4.5 * error)[:, different].all()


def test_labels_say_how_often_a_response_beats_another() -> None:
    everything = list(responses())
    wins = torch.zeros(2, len(PROMPTS), len(everything), dtype=torch.float64)
    for example in sampled_labels(PROBLEM, 4 * COUNT, torch_generator(0, "labels")):
        (response,) = example.tree.responses
        place = [prompt_ids(prompt) for prompt in PROMPTS].index(example.tree.prompt), everything.index(response)
        wins[(1 - example.target[0], *place)] += 1
    shown = wins.sum(0)
    off_diagonal = probabilities() * (1 - torch.eye(len(everything), dtype=torch.float64))
    expected = off_diagonal.sum(2) / (len(everything) - 1)
    assert ((wins[1] / shown - expected).abs() < 4.5 * (expected * (1 - expected) / shown).sqrt()).all()
