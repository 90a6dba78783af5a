"""The annotators' utilities and choices: by hand, and in frequency."""

import itertools
import math
import random
from collections import Counter

import pytest

from plaudit.quickstart.annotators import ANNOTATORS, Annotator, choice_probability, rank
from plaudit.quickstart.gold import gold_score
from plaudit.quickstart.qualities import Qualities, read_reply
from plaudit.quickstart.requests import draw_prompts, read_prompt
from plaudit.quickstart.world import compare

PERFECT = Qualities(
    slots=4, right=4, wrong=0, courtesy=frozenset({"greeting", "thanks", "closing"}), length=30, rude=False, faults=0
)
SOMEONE = Annotator("someone", courtesy=0.6, brevity=0.4, likes_length=0.0, noise=0.1)
TALKATIVE = Annotator("talkative", courtesy=0.6, brevity=0.4, likes_length=0.2, noise=0.1)


def qualities(**changes: object) -> Qualities:
    """Return a perfect reply's qualities with some of them changed."""
    return Qualities(**(PERFECT.__dict__ | changes))


@pytest.mark.parametrize(
    "reply, expected",
    [
        (PERFECT, 1.0),
        (qualities(right=3), 0.75),
        (qualities(right=3, wrong=1), 2.5 / 4),
        (qualities(right=0, wrong=3), 0.0),
        (qualities(courtesy=frozenset({"thanks"})), (1 + 0.6 / 3 + 0.4) / 2),
        (qualities(length=46), (1 + 0.6 + 0.4 * 0.5) / 2),
        (qualities(rude=True), 0.25),
        (qualities(faults=2), 0.25),
    ],
)
def test_utility_by_hand(reply: Qualities, expected: float) -> None:
    assert SOMEONE.utility(reply) == pytest.approx(expected)
    assert TALKATIVE.utility(reply) == pytest.approx(expected + 0.2 * reply.length / 40)


def test_the_preference_for_length_is_bounded() -> None:
    assert TALKATIVE.utility(qualities(length=60)) == TALKATIVE.utility(qualities(length=500))


def test_choice_probability_by_hand() -> None:
    assert choice_probability(0.5, 0.5, 0.1) == 0.5
    assert choice_probability(0.7, 0.5, 0.1) == pytest.approx(1 / (1 + math.exp(-2)))
    assert choice_probability(0.5, 0.7, 0.1) == pytest.approx(1 - 1 / (1 + math.exp(-2)))
    assert choice_probability(1e6, 0, 0.01) == 1


def test_pairs_are_chosen_with_the_bradley_terry_probability() -> None:
    random_numbers = random.Random(0)
    for gap in (0.0, 0.05, 0.2):
        wins = sum(rank([0.4 + gap, 0.4], 0.1, random_numbers)[0] == 0 for _ in range(20000))
        assert wins / 20000 == pytest.approx(choice_probability(gap, 0, 0.1), abs=0.015)


def test_rankings_have_the_plackett_luce_probabilities() -> None:
    utilities, noise = [0.3, 0.2, 0.0], 0.15
    weights = [math.exp(utility / noise) for utility in utilities]
    random_numbers = random.Random(1)
    seen = Counter(tuple(rank(utilities, noise, random_numbers)) for _ in range(40000))
    for order in itertools.permutations(range(3)):
        first, second, third = (weights[index] for index in order)
        expected = first / (first + second + third) * second / (second + third)
        ranks = tuple(order.index(index) for index in range(3))
        assert seen[ranks] / 40000 == pytest.approx(expected, abs=0.01)


def test_without_noise_the_ranking_is_that_of_the_utilities() -> None:
    assert rank([0.1, 0.9, 0.5, -1.0], 1e-9, random.Random(2)) == [2, 0, 1, 3]


def test_one_likes_length_and_three_do_not() -> None:
    assert sorted(annotator.likes_length > 0 for annotator in ANNOTATORS) == [False, False, False, True]
    assert len({annotator.noise for annotator in ANNOTATORS if annotator.likes_length == 0}) == 3
    for annotator in ANNOTATORS:
        longer = annotator.utility(qualities(length=36)) - annotator.utility(qualities(length=16))
        assert longer == pytest.approx(annotator.likes_length / 2)
        assert annotator.utility(PERFECT) > annotator.utility(qualities(right=3, length=50))


def test_annotators_agree_with_the_gold_score_in_most_pairs_but_not_in_all() -> None:
    prompts = draw_prompts("comparisons", 1200, random.Random(3))
    comparisons = [compare(prompt, random.Random(index)) for index, prompt in enumerate(prompts)]
    agreement = [agrees for comparison in comparisons for agrees in comparison.agreement()]
    assert 0.85 <= sum(agreement) / len(agreement) <= 0.90
    shares = Counter(comparison.annotator for comparison in comparisons)
    for annotator in ANNOTATORS:
        assert shares[annotator.name] / len(comparisons) == pytest.approx(0.25, abs=0.04)
    assert Counter(len(comparison.ranks) for comparison in comparisons)[2] / len(comparisons) == pytest.approx(
        0.5, abs=0.05
    )


def test_gold_scores_of_comparisons_are_not_written() -> None:
    (prompt,) = draw_prompts("comparisons", 1, random.Random(4))
    comparison = compare(prompt, random.Random(5))
    assert comparison.gold == tuple(gold_score(prompt, response) for response in comparison.responses)
    assert set(comparison.row()) == {"prompt", "responses", "ranks", "annotator"}
    assert all(read_reply(read_prompt(prompt), response).length > 0 for response in comparison.responses)
