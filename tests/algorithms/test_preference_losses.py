"""Reward-model losses over rankings of different sizes."""

import math
from collections import defaultdict

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from padded_batches import Ranked, property_test, ranked_responses
from plaudit.algorithms.preference_losses import best_of_k_loss, centering_penalty, pairwise_ranking_loss


def by_prompt(data: Ranked) -> list[list[tuple[float, int]]]:
    """(score, rank) of each prompt's responses."""
    groups = defaultdict(list)
    for score, prompt, rank in zip(data.scores.tolist(), data.prompts.tolist(), data.ranks.tolist(), strict=True):
        groups[prompt].append((score, rank))
    return list(groups.values())


def test_pairwise_by_hand() -> None:
    # Prompt 0, a pair with gap ln 3: sigmoid = 3/4, loss -ln 0.75 = 0.287682.
    # Prompt 1, scores 0, 0, ln 2 with ranks 0, 1, 2: gaps 0, -ln 2, -ln 2: sigmoids 1/2, 1/3, 1/3;
    #   mean (0.693147 + 1.098612 + 1.098612) / 3 = 0.963457.
    # Prompt 2: all tied, no pair. Sum 1.251139 over 2 prompts.
    scores = torch.tensor([math.log(3.0), 0.0, 0.0, 0.0, math.log(2.0), 9.0, -9.0])
    prompts, ranks = torch.tensor([0, 0, 1, 1, 1, 2, 2]), torch.tensor([0, 1, 0, 1, 2, 1, 1])
    found = pairwise_ranking_loss(scores, prompts, ranks, margin=0.0)
    assert found.loss.item() == pytest.approx(1.251139, abs=1e-6)
    assert found.prompts.item() == 2


def test_margin_by_hand() -> None:
    # Gap ln 6, ranks 0 and 2, margin ln(2) / 2 per rank: ln 6 - ln 2 = ln 3, loss -ln 0.75
    scores = torch.tensor([0.0, math.log(6.0)])
    found = pairwise_ranking_loss(scores, torch.tensor([3, 3]), torch.tensor([2, 0]), margin=math.log(2) / 2)
    assert found.loss.item() == pytest.approx(-math.log(0.75), abs=1e-6)


def test_best_of_k_by_hand() -> None:
    # Prompt 0: exp of scores 1, 2, 5; the best has 5/8: -ln 0.625 = 0.470004.
    # Prompt 1: exp 1, 3, 4; the first two tie for best: -(ln 1/8 + ln 3/8) / 2 = (2.079442 + 0.980829) / 2 = 1.530135.
    # Prompt 2: all tied; prompt 3: a single response. Sum 2.000139 over 2 prompts.
    scores = torch.tensor([1.0, 2.0, 5.0, 1.0, 3.0, 4.0, 1.0, 2.0, 7.0]).log()
    prompts, ranks = torch.tensor([0, 0, 0, 1, 1, 1, 2, 2, 3]), torch.tensor([2, 1, 0, 1, 1, 4, 2, 2, 0])
    found = best_of_k_loss(scores, prompts, ranks)
    assert found.loss.item() == pytest.approx(2.000139, abs=1e-6)
    assert found.prompts.item() == 2


def test_centering_by_hand() -> None:
    # Means 2, -0.5 and 3: 4 + 0.25 + 9 = 13.25
    found = centering_penalty(torch.tensor([1.0, -2.0, 3.0, 1.0, 3.0]), torch.tensor([5, 1, 5, 1, 9]))
    assert (found.loss.item(), found.prompts.item()) == (13.25, 3)


def test_nothing_to_compare() -> None:
    for scores in (torch.zeros(0, requires_grad=True), torch.ones(2, requires_grad=True)):
        prompts = torch.arange(len(scores))
        for found in (pairwise_ranking_loss(scores, prompts, prompts, 0.0), best_of_k_loss(scores, prompts, prompts)):
            assert (found.loss.item(), found.prompts.item()) == (0, 0)
            assert not torch.autograd.grad(found.loss, scores)[0].any()
    assert centering_penalty(torch.zeros(0), torch.zeros(0, dtype=torch.long)).loss.item() == 0


@property_test
@given(ranked_responses(), st.floats(0, 2))
def test_equal_to_slow_loops(data: Ranked, margin: float) -> None:
    pairwise, pairwise_prompts, best_of_k, centering = 0.0, 0, 0.0, 0.0
    for group in by_prompt(data):
        losses = [math.log1p(math.exp(-(s - t - margin * (j - i)))) for s, i in group for t, j in group if i < j]
        if losses:
            pairwise, pairwise_prompts = pairwise + sum(losses) / len(losses), pairwise_prompts + 1
            total = sum(math.exp(score) for score, _ in group)
            best = [score for score, rank in group if rank == min(rank for _, rank in group)]
            best_of_k -= sum(score - math.log(total) for score in best) / len(best)
        centering += (sum(score for score, _ in group) / len(group)) ** 2
    first = pairwise_ranking_loss(*data, margin)
    second = best_of_k_loss(*data)
    third = centering_penalty(data.scores, data.prompts)
    assert [first.loss.item(), second.loss.item(), third.loss.item()] == pytest.approx([pairwise, best_of_k, centering])
    assert first.prompts.item() == second.prompts.item() == pairwise_prompts
    assert third.prompts.item() == len(by_prompt(data))


@property_test
@given(ranked_responses(), st.data())
def test_order_and_split_change_nothing(data: Ranked, draw: st.DataObject) -> None:
    order = torch.tensor(draw.draw(st.permutations(range(len(data.scores)))))
    shuffled = Ranked(*(column[order] for column in data))
    early = data.prompts < draw.draw(st.integers(0, 5))

    def results(part: Ranked) -> Tensor:
        ranking, best = pairwise_ranking_loss(*part, 0.3), best_of_k_loss(*part)
        centering = centering_penalty(part.scores, part.prompts)
        return torch.stack([x for loss in (ranking, best, centering) for x in (loss.loss, loss.prompts.double())])

    whole = results(data)
    assert_close(results(shuffled), whole)
    parts = results(Ranked(*(column[early] for column in data))), results(Ranked(*(column[~early] for column in data)))
    assert_close(parts[0] + parts[1], whole)


@property_test
@given(ranked_responses())
def test_a_constant_per_prompt_changes_no_ranking_loss(data: Ranked) -> None:
    shifted = Ranked(data.scores + 3.0 * data.prompts - 5.0, data.prompts, data.ranks)
    assert_close(pairwise_ranking_loss(*shifted, 0.1).loss, pairwise_ranking_loss(*data, 0.1).loss)
    assert_close(best_of_k_loss(*shifted).loss, best_of_k_loss(*data).loss)


@property_test
@given(ranked_responses())
def test_on_untied_pairs_best_of_two_is_the_pairwise_loss(data: Ranked) -> None:
    scores = torch.cat([data.scores, data.scores.flip(0) + 1])
    prompts = torch.arange(len(data.scores)).repeat(2)
    ranks = torch.cat([data.ranks, data.ranks + 1])
    best, pairwise = best_of_k_loss(scores, prompts, ranks), pairwise_ranking_loss(scores, prompts, ranks, 0.0)
    assert_close((best.loss, best.prompts), (pairwise.loss, pairwise.prompts))


def test_gradients_by_finite_differences() -> None:
    generator = torch.Generator().manual_seed(5)
    scores = torch.randn(7, generator=generator, dtype=torch.float64, requires_grad=True)
    prompts, ranks = torch.tensor([0, 1, 0, 2, 1, 0, 2]), torch.tensor([1, 0, 0, 2, 1, 1, 2])
    assert torch.autograd.gradcheck(lambda s: pairwise_ranking_loss(s, prompts, ranks, 0.2).loss, scores)
    assert torch.autograd.gradcheck(lambda s: best_of_k_loss(s, prompts, ranks).loss, scores)
    assert torch.autograd.gradcheck(lambda s: centering_penalty(s, prompts).loss, scores)


def test_extreme_scores_stay_finite() -> None:
    # -ln sigmoid(-2e4) = 2e4, where log(sigmoid()) would be infinite.
    scores = torch.tensor([-1e4, 1e4], requires_grad=True)
    prompts, ranks = torch.tensor([0, 0]), torch.tensor([0, 1])
    for found in (pairwise_ranking_loss(scores, prompts, ranks, 0.0), best_of_k_loss(scores, prompts, ranks)):
        assert found.loss.item() == pytest.approx(2e4)
        assert torch.autograd.grad(found.loss, scores)[0].tolist() == [-1.0, 1.0]


def test_bfloat16_scores_are_widened() -> None:
    scores = torch.zeros(2, dtype=torch.bfloat16)
    prompts, ranks = torch.tensor([0, 0]), torch.tensor([0, 1])
    for found in (pairwise_ranking_loss(scores, prompts, ranks, 0.0), best_of_k_loss(scores, prompts, ranks)):
        assert found.loss.dtype == torch.float32
        assert found.loss.item() == pytest.approx(math.log(2), abs=1e-6)
