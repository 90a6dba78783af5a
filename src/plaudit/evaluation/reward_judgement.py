"""A reward model's accuracy compared with trivial baselines."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from plaudit.batching.trees import PromptTree
from plaudit.data.rows import RankingRow, Row
from plaudit.evaluation.preference_baselines import preference_baselines
from plaudit.evaluation.reward_accuracy import preference_accuracy, preference_gaps, reliability
from plaudit.evaluation.summary import flattened


def judge_reward_model(
    scores: Tensor, held_out: Sequence[PromptTree], train_rows: Sequence[Row], held_out_rows: Sequence[Row]
) -> dict[str, Any]:
    """Return the held-out accuracy with its 95 % interval, and that of a length-only and a bag-of-words model.

    ``scores`` [responses] are the reward model's for ``held_out``, before any scale; the rows are those that the
    stage's trees came from, so that all three see the same comparisons. ``calibration`` holds what ``reliability``
    returns; the other keys are one level, joined by slashes: ``held_out_accuracy/low``, ``baseline/length/accuracy``.
    """
    gaps = preference_gaps(scores, [tree.fields["ranks"] for tree in held_out])
    train, kept = ([row for row in rows if isinstance(row, RankingRow)] for rows in (train_rows, held_out_rows))
    baselines = preference_baselines(train, kept)
    numbers = flattened({"held_out_accuracy": preference_accuracy(gaps), "baseline": baselines})
    return {**numbers, "calibration": reliability(gaps)}
