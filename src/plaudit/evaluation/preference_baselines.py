"""Trivial preference models that a reward model must beat: response length, and a bag of words."""

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import softplus

from plaudit.algorithms.comparisons import score_gaps
from plaudit.data.rows import RankingRow
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.evaluation.reward_accuracy import flat_pairs, preference_accuracy, preference_gaps
from plaudit.evaluation.words import words

Measure = Callable[[TokenizedRow[RankingRow]], list[int]]
"""The lengths of a row's responses."""

PENALTY = 1.0
"""Factor of the squared norm / 2 in the loss over all pairs: a standard normal prior on the weights."""

MINIMUM_ROWS = 2
"""Words that occur in fewer training rows are left out, because they are too rare to learn from."""

LBFGS_STEPS = 200


def preference_baselines(
    train: Sequence[TokenizedRow[RankingRow]], held_out: Sequence[TokenizedRow[RankingRow]]
) -> dict[str, dict[str, float]]:
    """Return the held-out accuracy (see ``preference_accuracy``) of three models that read only the responses.

    ``length_tokens`` and ``length_characters``: prefer the longer response, or the shorter if that is right more often
    on the training rows; ``sign`` is 1 or -1. ``bag_of_words``: logistic regression on the difference of word counts;
    ``words`` is its vocabulary.
    """
    train_rows, held_out_rows = [row.row for row in train], [row.row for row in held_out]
    vocabulary = _vocabulary(train_rows)
    ranks = [row.ranks for row in held_out_rows]
    gaps = preference_gaps(_counts(held_out_rows, vocabulary) @ word_weights(train_rows, vocabulary), ranks)
    return {
        "length_tokens": _by_length(train, held_out, _tokens),
        "length_characters": _by_length(train, held_out, _characters),
        "bag_of_words": {**preference_accuracy(gaps), "words": len(vocabulary)},
    }


def _tokens(row: TokenizedRow[RankingRow]) -> list[int]:
    return [len(response) for response in row.tree.responses]


def _characters(row: TokenizedRow[RankingRow]) -> list[int]:
    return [len(response) for response in row.row.responses]


def _by_length(
    train: Sequence[TokenizedRow[RankingRow]], held_out: Sequence[TokenizedRow[RankingRow]], measure: Measure
) -> dict[str, float]:
    sign = 1 if torch.cat(_length_gaps(train, measure)).sign().sum() >= 0 else -1
    return {**preference_accuracy([sign * gaps for gaps in _length_gaps(held_out, measure)]), "sign": sign}


def _length_gaps(rows: Sequence[TokenizedRow[RankingRow]], measure: Measure) -> list[Tensor]:
    lengths = torch.tensor([float(length) for row in rows for length in measure(row)])
    return preference_gaps(lengths, [row.row.ranks for row in rows])


def _words(text: str) -> list[str]:
    return words(text.lower())


def _texts(rows: Sequence[RankingRow]) -> list[str]:
    return [response for row in rows for response in row.responses]


def _vocabulary(rows: Sequence[RankingRow]) -> dict[str, int]:
    rows_with = Counter(word for row in rows for word in {word for text in row.responses for word in _words(text)})
    kept = sorted(word for word, count in rows_with.items() if count >= MINIMUM_ROWS)
    return {word: index for index, word in enumerate(kept)}


def _counts(rows: Sequence[RankingRow], vocabulary: dict[str, int]) -> Tensor:
    """Return the counts [responses, words] of the vocabulary's words as a sparse tensor."""
    texts = _texts(rows)
    entries = [
        (index, vocabulary[word], float(count))
        for index, text in enumerate(texts)
        for word, count in Counter(_words(text)).items()
        if word in vocabulary
    ]
    places = torch.tensor([entry[:2] for entry in entries], dtype=torch.long).reshape(-1, 2).T
    counts = torch.tensor([entry[2] for entry in entries], dtype=torch.float64)
    return torch.sparse_coo_tensor(places, counts, (len(texts), len(vocabulary)), check_invariants=True)


def word_weights(rows: Sequence[RankingRow], vocabulary: dict[str, int]) -> Tensor:
    """Return the weights [words] that minimize the pairs' logistic loss plus ``PENALTY / 2 * |weights|^2``."""
    counts = _counts(rows, vocabulary)
    pairs, _ = flat_pairs([row.ranks for row in rows])
    weights = torch.zeros(len(vocabulary), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        """Return the penalized loss over all pairs, and leave its gradient in the weights."""
        optimizer.zero_grad()
        gaps = score_gaps(counts @ weights, pairs)
        total = softplus(-gaps).sum() + PENALTY / 2 * weights.square().sum()
        total.backward()
        return total

    optimizer.step(loss)
    return weights.detach()
