"""A reward model's accuracy compared with trivial baselines."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from plaudit.data.rows import RankingRow
from plaudit.data.rows.ranking import Ranks
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.evaluation.preference_baselines import preference_baselines
from plaudit.evaluation.reward_accuracy import preference_accuracy, preference_gaps, reliability
from plaudit.evaluation.summary import flattened


def judge_reward_model(
    scores: Tensor,
    held_out: Sequence[Ranks],
    train_rows: Sequence[TokenizedRow[RankingRow]],
    held_out_rows: Sequence[TokenizedRow[RankingRow]],
) -> dict[str, Any]:
    """Return the held-out accuracy with its 95 % interval, and those of lengths alone and of a bag of words.

    ``scores`` [responses] are the reward model's for the held-out responses of these ranks, before any scale; the rows
    are those that the stage's examples came from, so that all see the same comparisons. ``calibration`` holds
    what ``reliability`` returns; the other keys are one level, joined by slashes: ``held_out_accuracy/low``,
    ``baseline/length_tokens/accuracy``.
    """
    gaps = preference_gaps(scores, held_out)
    baselines = preference_baselines(train_rows, held_out_rows)
    numbers = flattened({"held_out_accuracy": preference_accuracy(gaps), "baseline": baselines})
    return {**numbers, "calibration": reliability(gaps)}
