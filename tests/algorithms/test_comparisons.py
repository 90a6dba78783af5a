"""Pairs implied by rankings, accuracy, margin and calibration."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from padded_batches import Ranked, property_test, ranked_responses
from plaudit.algorithms.comparisons import (
    calibration_table,
    comparison_statistics,
    expected_calibration_error,
    ranked_pairs,
    score_gaps,
)


def pair_set(prompts: list[int], ranks: list[int]) -> set[tuple[int, int]]:
    pairs = ranked_pairs(torch.tensor(prompts, dtype=torch.long), torch.tensor(ranks, dtype=torch.long))
    found = list(zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True))
    assert len(found) == len(set(found))
    return set(found)


def test_pairs_by_hand() -> None:
    # Prompt 7 has responses 0, 2, 3 with ranks 1, 0, 1: response 2 beats 0 and 3, which tie. Prompt 4 has 1 and 4.
    assert pair_set([7, 4, 7, 7, 4], [1, 0, 0, 1, 5]) == {(2, 0), (2, 3), (1, 4)}


def test_without_ties_there_are_k_times_k_minus_one_half() -> None:
    assert len(pair_set([0] * 6, [3, 1, 5, 0, 2, 4])) == 15


def test_no_pairs() -> None:
    assert pair_set([], []) == set()
    assert pair_set([0, 1, 2], [0, 1, 2]) == set()
    assert pair_set([0, 0, 0], [2, 2, 2]) == set()


@property_test
@given(ranked_responses())
def test_pairs_equal_a_double_loop(data: Ranked) -> None:
    prompts, ranks = data.prompts.tolist(), data.ranks.tolist()
    every = range(len(prompts))
    slow = {(i, j) for i in every for j in every if prompts[i] == prompts[j] and ranks[i] < ranks[j]}
    assert pair_set(prompts, ranks) == slow


def test_statistics_by_hand() -> None:
    # Gaps 2, -0.5, 0, 1: right 1 + 0 + 1/2 + 1 = 2.5 of 4; margin 2.5
    found = comparison_statistics(torch.tensor([2.0, -0.5, 0.0, 1.0]))
    assert (found.pairs.item(), found.correct.item(), found.margin.item()) == (4, 2.5, 2.5)
    nothing = comparison_statistics(torch.zeros(0))
    assert (nothing.pairs.item(), nothing.correct.item(), nothing.margin.item()) == (0, 0, 0)


@property_test
@given(ranked_responses())
def test_statistics_from_rankings_equal_a_loop(data: Ranked) -> None:
    pairs = ranked_pairs(data.prompts, data.ranks)
    scores = data.scores.round()
    correct = margin = 0.0
    for better, worse in zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True):
        gap = (scores[better] - scores[worse]).item()
        margin += gap
        correct += 1 if gap > 0 else 0.5 if gap == 0 else 0
    found = comparison_statistics(score_gaps(scores, pairs))
    assert found.pairs.item() == len(pairs.better)
    assert [found.correct.item(), found.margin.item()] == pytest.approx([correct, margin], abs=1e-9)


def test_calibration_by_hand() -> None:
    # Two bins: [0.5, 0.75) and [0.75, 1]. ln(1.5) predicts 0.6, ln(4) predicts 0.8, ln(9) predicts 0.9, 0 predicts 0.5.
    # First bin: 0.6 wrong, 0.5 half right; second: 0.8 right, 0.9 wrong, 0.9 right.
    gaps = torch.tensor([-math.log(1.5), 0.0, math.log(4.0), -math.log(9.0), math.log(9.0)])
    table = calibration_table(gaps, bins=2)
    assert_close(table, torch.tensor([[2.0, 1.1, 0.5], [3.0, 2.6, 2.0]]))
    # 2/5 * |0.25 - 0.55| + 3/5 * |2/3 - 2.6/3| = 0.12 + 0.12 = 0.24
    assert expected_calibration_error(table).item() == pytest.approx(0.24, abs=1e-6)


def test_calibration_of_one_pair() -> None:
    # ln 4 predicts 0.8, and is right: off by 0.2.
    error = expected_calibration_error(calibration_table(torch.tensor([math.log(4.0)]), bins=10))
    assert error.item() == pytest.approx(0.2, abs=1e-6)


def test_calibration_of_certainty_and_of_nothing() -> None:
    # A gap of 100 predicts 1 and belongs to the last bin.
    table = calibration_table(torch.tensor([100.0, 100.0, -100.0, 100.0]), bins=10)
    assert table[9].tolist() == [4, 4, 3]
    assert expected_calibration_error(table).item() == pytest.approx(0.25)
    assert expected_calibration_error(calibration_table(torch.zeros(0), bins=10)).item() == 0


@property_test
@given(st.lists(st.floats(-6, 6), min_size=1, max_size=20), st.integers(1, 12), st.integers(0, 20))
def test_calibration_equals_a_loop_and_tables_add_up(gaps: list[float], bins: int, cut: int) -> None:
    tensor = torch.tensor(gaps, dtype=torch.float64)
    table = calibration_table(tensor, bins)
    members: list[list[tuple[float, float]]] = [[] for _ in range(bins)]
    for gap in gaps:
        predicted = torch.sigmoid(torch.tensor(abs(gap), dtype=torch.float64)).item()
        place = min(int((predicted - 0.5) * 2 * bins), bins - 1)
        members[place].append((predicted, 1.0 if gap > 0 else 0.5 if gap == 0 else 0.0))
    error = 0.0
    for inside in filter(None, members):
        accuracy = sum(right for _, right in inside) / len(inside)
        confidence = sum(predicted for predicted, _ in inside) / len(inside)
        error += len(inside) / len(gaps) * abs(accuracy - confidence)
    assert expected_calibration_error(table).item() == pytest.approx(error, abs=1e-9)
    assert_close(calibration_table(tensor[:cut], bins) + calibration_table(tensor[cut:], bins), table)
    # The sign of the score gap changes only whether the prediction is right, not the prediction itself.
    mirrored = calibration_table(-tensor, bins)
    assert_close(mirrored[:, :2], table[:, :2])
    assert_close(mirrored[:, 2], table[:, 0] - table[:, 2])
