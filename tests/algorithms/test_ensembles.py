"""Combined scores of several reward models."""

from typing import get_args

import torch

from plaudit.algorithms.ensembles import Combination, ensemble_scores


def test_combinations_by_hand() -> None:
    # Member scores 1, 2, 6 (mean 3, variance (4 + 1 + 9) / 3 = 14 / 3) and 2, 2, 2 (no disagreement).
    scores = torch.tensor([[1.0, 2.0], [2.0, 2.0], [6.0, 2.0]])
    assert ensemble_scores(scores, "mean", 9.0).tolist() == [3.0, 2.0]
    assert ensemble_scores(scores, "minimum", 9.0).tolist() == [1.0, 2.0]
    torch.testing.assert_close(ensemble_scores(scores, "penalized", 0.5), torch.tensor([3 - 7 / 3, 2.0]))


def test_one_member_is_itself() -> None:
    scores = torch.randn(1, 5)
    for combination in get_args(Combination):
        torch.testing.assert_close(ensemble_scores(scores, combination, 1.0), scores[0])
