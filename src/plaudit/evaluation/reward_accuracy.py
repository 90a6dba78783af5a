"""How often a reward source agrees with human preferences, with a confidence interval."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from plaudit.algorithms.comparisons import (
    Pairs,
    calibration_table,
    expected_calibration_error,
    ranked_pairs,
    score_gaps,
)
from plaudit.data.chat_templates import end_of_turn_ids
from plaudit.data.rows import RankingRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.evaluation.statistics import bootstrap_interval, proportion_interval
from plaudit.rewards.sources import ComposedReward, RewardSource
from plaudit.rollouts.samples import Sample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CALIBRATION_BINS = 10


def flat_pairs(ranks: Sequence[Sequence[int]]) -> tuple[Pairs, list[int]]:
    """Return the pairs that differ in rank among all prompts' responses laid flat, and their number for each prompt."""
    prompts = torch.arange(len(ranks)).repeat_interleave(torch.tensor([len(own) for own in ranks]))
    pairs = ranked_pairs(prompts, torch.tensor([rank for own in ranks for rank in own]))
    return pairs, torch.bincount(prompts[pairs.better], minlength=len(ranks)).tolist()


def preference_gaps(scores: Tensor, ranks: Sequence[Sequence[int]]) -> list[Tensor]:
    """Return for each prompt the score gaps, better minus worse, of all pairs of its responses that differ in rank.

    ``scores`` [responses] holds the prompts' responses one after the other, ``ranks`` one sequence per prompt; rank 0
    is best. A prompt without such pairs has no gaps.
    """
    pairs, numbers = flat_pairs(ranks)
    return list(score_gaps(scores, pairs).split(numbers))


def preference_accuracy(gaps: Sequence[Tensor]) -> dict[str, float]:
    """Return ``accuracy``, 95 % interval ``low`` and ``high``, ``pairs`` and ``prompts`` from the gaps of each prompt.

    Equal scores count as half. The interval is that of a proportion if every prompt has one pair, otherwise a bootstrap
    over prompts, because the pairs of a ranking are not independent.
    """
    gaps = [own for own in gaps if len(own)]
    return accuracy_of_counts(
        torch.tensor([right_pairs(own) for own in gaps]), torch.tensor([len(own) for own in gaps])
    )


def right_pairs(gaps: Tensor) -> float:
    """Return how many of a prompt's gaps are positive; a gap of zero counts as half."""
    return ((gaps > 0).sum() + (gaps == 0).sum() / 2).item()


def accuracy_of_counts(correct: Tensor, pairs: Tensor) -> dict[str, float]:
    """Return what ``preference_accuracy`` does, from each prompt's number of right pairs and of pairs, [prompts]."""
    total = int(pairs.sum())
    low, high = _interval_over_prompts(correct, pairs)
    accuracy = correct.sum().item() / total
    return {"accuracy": accuracy, "low": low, "high": high, "pairs": total, "prompts": len(pairs)}


def reliability(gaps: Sequence[Tensor]) -> list[dict[str, float]]:
    """Return a row for each bin of the predicted probability that contains a pair; bins as in ``calibration_table``.

    A row has the bin's bounds ``from`` and ``to``, the number of ``pairs``, the mean ``predicted`` probability, the
    fraction that was ``right``, and its 95 % interval ``low``, ``high`` as in ``preference_accuracy``. ``gaps`` are the
    score gaps of each prompt, in log odds.
    """
    tables = torch.stack([calibration_table(own, CALIBRATION_BINS) for own in gaps])
    rows = []
    for number, of_bin in enumerate(tables.double().unbind(dim=1)):
        total, predicted, right = of_bin.sum(dim=0).tolist()
        if total:
            row = {"from": 0.5 + number / (2 * CALIBRATION_BINS), "to": 0.5 + (number + 1) / (2 * CALIBRATION_BINS)}
            low, high = _interval_over_prompts(of_bin[:, 2], of_bin[:, 0])
            share = {"predicted": predicted / total, "right": right / total, "low": low, "high": high}
            rows.append({**row, "pairs": int(total), **share})
    return rows


def _interval_over_prompts(right: Tensor, pairs: Tensor) -> tuple[float, float]:
    """Return a proportion's interval if no prompt has more than one pair, otherwise a bootstrap over prompts."""
    if (pairs > 1).any():
        return bootstrap_interval(right[pairs > 0], pairs[pairs > 0])
    return proportion_interval(right.sum().item(), int(pairs.sum()))


def reward_accuracy(
    source: RewardSource,
    rankings: Sequence[TokenizedRow[RankingRow]],
    tokenizer: "PreTrainedTokenizerBase",
    gain: float = 1.0,
) -> dict[str, float]:
    """Measure a source on rankings.

    Returns what ``preference_accuracy`` does, the mean ``margin`` (score of the better minus that of the worse) and
    ``calibration_error`` of P(better) = sigmoid(margin / gain). ``gain`` is the factor by which a reward model's
    scores were normalized after training: the probability belongs to the scores before that. Raises PlauditError for
    scores that are not finite.
    """
    ends = {tokenizer.eos_token_id, *end_of_turn_ids(tokenizer)}
    samples = [sample for ranking in rankings for sample in _samples(ranking, tokenizer, ends)]
    scores = ComposedReward([source], [1.0]).score(samples).total
    gaps = preference_gaps(scores, [ranking.row.ranks for ranking in rankings])
    flat = torch.cat(gaps)
    calibration = expected_calibration_error(calibration_table(flat / gain, CALIBRATION_BINS))
    return {**preference_accuracy(gaps), "margin": flat.mean().item(), "calibration_error": calibration.item()}


def _samples(
    ranking: TokenizedRow[RankingRow], tokenizer: "PreTrainedTokenizerBase", ends: Collection[int]
) -> list[Sample]:
    return [
        Sample(
            ranking.tree.prompt,
            response,
            ranking.prompt_text,
            tokenizer.decode(response, skip_special_tokens=True),
            ended=response[-1] in ends,
        )
        for response in ranking.tree.responses
    ]
