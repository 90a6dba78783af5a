"""Accuracy of rewards on rankings, and the baselines that it must beat."""

import math
from collections.abc import Sequence

import pytest
import torch

from evaluation_world import make_tokenizer
from plaudit.batching.trees import PromptTree
from plaudit.data.rows import Origin, RankingRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.evaluation.preference_baselines import Responses, preference_baselines, word_weights
from plaudit.evaluation.reward_accuracy import (
    preference_accuracy,
    preference_gaps,
    reliability,
    reward_accuracy,
)
from plaudit.evaluation.statistics import bootstrap_interval, exact_interval
from plaudit.rollouts.samples import Sample
from plaudit.seeding import python_generator

HERE = Origin("test", 1)


def ranking(*responses: str, ranks: tuple[int, ...] | None = None) -> RankingRow:
    return RankingRow("p", responses, ranks or tuple(range(len(responses))), HERE)


def tokenized(rows: Sequence[RankingRow]) -> list[TokenizedRow[RankingRow]]:
    """One token per word."""
    trees = [PromptTree((1,), tuple((2,) * len(text.split()) for text in row.responses)) for row in rows]
    return [TokenizedRow(row, tree, "p") for row, tree in zip(rows, trees, strict=True)]


def baselines(train: Sequence[RankingRow], held_out: Sequence[RankingRow]) -> dict[str, dict[str, float]]:
    return preference_baselines(tokenized(train), tokenized(held_out))


def test_gaps_of_ragged_rankings_with_ties() -> None:
    scores = torch.tensor([1.0, 3.0, 5.0, 2.0, 2.0, 4.0, 9.0])
    gaps = preference_gaps(scores, [(1, 0), (0, 1, 1), (0, 0)])
    assert [sorted(own.tolist()) for own in gaps] == [[2.0], [3.0, 3.0], []]


def test_few_pairs_get_the_exact_interval() -> None:
    gaps = [torch.tensor([gap]) for gap in (0.5, 1.0, -0.2, 0.0, 2.0)]
    low, high = exact_interval(3.5, 5)
    assert preference_accuracy(gaps) == {"accuracy": 0.7, "low": low, "high": high, "pairs": 5, "prompts": 5}


def test_rankings_are_resampled_by_prompt() -> None:
    gaps = [torch.tensor([1.0, 1.0, -1.0]), torch.tensor([1.0]), torch.tensor([]), torch.tensor([-1.0, 0.0, 0.5])]
    low, high = bootstrap_interval(torch.tensor([2.0, 1.0, 1.5]), torch.tensor([3.0, 1.0, 3.0]))
    found = preference_accuracy(gaps)
    assert found == {"accuracy": 4.5 / 7, "low": low, "high": high, "pairs": 7, "prompts": 3}


def log_odds(probability: float) -> float:
    return math.log(probability / (1 - probability))


def test_reliability_of_pairs_by_hand() -> None:
    sure, unsure = log_odds(0.98), log_odds(0.96)
    gaps = [torch.tensor([gap]) for gap in (sure, -unsure, unsure, log_odds(0.52), 0.0)]
    least, most = reliability(gaps)
    assert (least["from"], least["to"], least["pairs"]) == (0.5, pytest.approx(0.55), 2)
    assert (least["predicted"], least["right"]) == (pytest.approx(0.51), 0.75)
    assert (least["low"], least["high"]) == exact_interval(1.5, 2)
    assert (most["from"], most["to"], most["pairs"]) == (pytest.approx(0.95), 1.0, 3)
    assert (most["predicted"], most["right"]) == (pytest.approx(2.9 / 3), pytest.approx(2 / 3))
    assert (most["low"], most["high"]) == exact_interval(2, 3)


def test_reliability_resamples_the_prompts_of_a_bin() -> None:
    sure = log_odds(0.97)
    gaps = [torch.tensor([sure, sure, -sure]), torch.tensor([]), torch.tensor([0.01]), torch.tensor([sure])]
    least, most = reliability(gaps)
    assert (most["pairs"], most["right"]) == (4, 0.75)
    assert (most["low"], most["high"]) == bootstrap_interval(torch.tensor([2.0, 1.0]), torch.tensor([3.0, 1.0]))
    assert (least["low"], least["high"]) == exact_interval(1, 1)


class LengthReward:
    """Twice the number of words: what a normalized score with gain 2 is to the number of words."""

    name = "length"

    def __init__(self) -> None:
        self.seen: list[Sample] = []

    def score(self, samples: Sequence[Sample]) -> torch.Tensor:
        self.seen = list(samples)
        return torch.tensor([2.0 * len(sample.response_text.split()) for sample in samples])


def test_reward_accuracy_on_trees() -> None:
    tokenizer = make_tokenizer()

    def on_the_day(*responses: str) -> TokenizedRow[RankingRow]:
        ids = tuple((*tokenizer(response)["input_ids"], tokenizer.eos_token_id) for response in responses)
        return TokenizedRow(ranking(*responses), PromptTree((3, 7), ids), "the day")

    source = LengthReward()
    rankings = [on_the_day("was good", "bad"), on_the_day("bad", "is very", "not")]
    found = reward_accuracy(source, rankings, tokenizer, gain=2.0)
    assert [sample.response_text for sample in source.seen] == ["was good", "bad", "bad", "is very", "not"]
    assert all(sample.prompt_text == "the day" and sample.ended for sample in source.seen)
    # Gaps in words: 1 | -1, 0, 1, so 2.5 of 4 pairs are right.
    assert found["accuracy"] == 2.5 / 4
    assert found["margin"] == pytest.approx(2 * 1 / 4)
    sure = 1 / (1 + math.exp(-1))  # three pairs predicted with it, of which two are right; the tie is calibrated
    assert found["calibration_error"] == pytest.approx(abs(2 - 3 * sure) / 4, abs=1e-6)


def word_rows(number: int, key: str) -> list[RankingRow]:
    """The better response contains a courteous word, at any place and with any length."""
    generator = python_generator(key)
    rows = []
    for _ in range(number):
        texts = [
            [generator.choice(["the", "room", "is", "here"]) for _ in range(generator.randint(3, 9))] for _ in "ab"
        ]
        for text, word in zip(texts, (generator.choice(["please", "gladly"]), "no"), strict=True):
            text.insert(generator.randrange(len(text)), word)
        ranks = generator.choice([(0, 1), (1, 0)])
        better, worse = " ".join(texts[0]), " ".join(texts[1])
        rows.append(ranking(*((better, worse) if ranks == (0, 1) else (worse, better)), ranks=ranks))
    return rows


def test_decisive_words_are_learned_and_length_is_ignored() -> None:
    found = baselines(word_rows(80, "train"), word_rows(200, "held out"))
    assert found["bag_of_words"]["accuracy"] == 1.0
    assert found["bag_of_words"]["words"] == 7
    assert 0.35 < found["length_tokens"]["accuracy"] < 0.65
    assert found["length_tokens"]["pairs"] == 200


@pytest.mark.parametrize("ranks, sign", [((0, 1), 1), ((1, 0), -1)])
def test_length_learns_whether_longer_or_shorter_is_better(ranks: tuple[int, int], sign: int) -> None:
    rows = [ranking("one two three" + " more" * extra, "one", ranks=ranks) for extra in range(5)]
    for unit in ("tokens", "characters"):
        length = baselines(rows, rows)[f"length_{unit}"]
        assert (length["sign"], length["accuracy"]) == (sign, 1.0)


def test_the_fit_minimizes_its_loss() -> None:
    # One word decides three pairs: 3 softplus(-w) + w^2 / 2 is least where 3 sigmoid(-w) = w.
    read = Responses.of(tokenized([ranking("good", "bad") for _ in range(3)]))
    (weight,) = word_weights(read.counted({"good": 0}), read.ranks).tolist()
    assert 3 / (1 + math.exp(weight)) == pytest.approx(weight, abs=1e-6)


def test_words_of_a_single_row_are_left_out() -> None:
    rows = [ranking("good once", "bad"), ranking("good", "bad")]
    assert baselines(rows, rows)["bag_of_words"]["words"] == 2


@pytest.mark.parametrize(
    "better, worse",
    [("今天天气很好", "天气"), ("とても良い天気です", "天気"), ("อากาศดีมากวันนี้", "ดี"), ("👍👍👍👍", "👍👎")],
)
def test_lengths_and_words_of_scripts_without_spaces(better: str, worse: str) -> None:
    """Counted by what spaces separate, every text here is one word, and no two texts share one."""
    rows = [ranking(better + extra, worse + extra) for extra in "甲乙丙"]
    found = baselines(rows, rows)
    assert (found["length_characters"]["sign"], found["length_characters"]["accuracy"]) == (1, 1.0)
    assert found["bag_of_words"]["accuracy"] == 1.0
    assert found["bag_of_words"]["words"] == len({*better, *worse}), "each character of at least two rows"


def test_length_is_judged_on_held_out_rows_by_what_it_learned_on_others() -> None:
    longer_wins = [ranking("one two three", "one") for _ in range(7)] + [ranking("one", "one two") for _ in range(3)]
    held_out = [ranking("a b c d", "a b") for _ in range(5)] + [ranking("a", "a b"), ranking("a", "b", "c d")]
    found = baselines(longer_wins, held_out)["length_tokens"]
    # Right in the 5 pairs; wrong in the next, and in the ranking a tie counts half and both longer ones are wrong.
    assert (found["sign"], found["pairs"]) == (1, 9)
    assert found["accuracy"] == pytest.approx(5.5 / 9)
    assert found["low"] < found["accuracy"] < found["high"]
