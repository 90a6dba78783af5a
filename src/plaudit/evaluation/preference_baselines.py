"""Trivial preference models that a reward model must beat: response length, and a bag of words."""

from array import array
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import softplus

from plaudit.algorithms.comparisons import score_gaps
from plaudit.data.rows import RankingRow
from plaudit.data.rows.ranking import Ranks
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.evaluation.reward_accuracy import flat_pairs, preference_accuracy, preference_gaps
from plaudit.evaluation.words import words

Array = NDArray[np.int64]

PENALTY = 1.0
"""Factor of the squared norm / 2 in the loss over all pairs: a standard normal prior on the weights."""

MINIMUM_ROWS = 2
"""Words that occur in fewer training rows are left out, because they are too rare to learn from."""

LBFGS_STEPS = 200


@dataclass(frozen=True)
class Responses:
    """What the baselines read of the responses of rows: ranks by row, lengths [R], and counts of words.

    Entry e of ``places``, ``words`` and ``counts`` [E] says how often a response has a word. Words are numbered as in
    ``names``, and ``rows_with`` [words] counts the rows with a word.
    """

    ranks: list[Ranks]
    tokens: Array
    characters: Array
    places: Array
    words: Array
    counts: Array
    names: dict[str, int]
    rows_with: Array

    @classmethod
    def of(cls, rows: Iterable[TokenizedRow[RankingRow]]) -> "Responses":
        """Read rows once; none of them is kept."""
        ranks: list[Ranks] = []
        tokens, characters, places, numbers, counts = (array("q") for _ in range(5))
        names: dict[str, int] = {}
        rows_with: Counter[int] = Counter()
        for row in rows:
            ranks.append(row.row.ranks)
            in_row: set[int] = set()
            for text, ids in zip(row.row.responses, row.tree.responses, strict=True):
                for word, count in Counter(words(text.lower())).items():
                    number = names.setdefault(word, len(names))
                    in_row.add(number)
                    places.append(len(tokens))
                    numbers.append(number)
                    counts.append(count)
                tokens.append(len(ids))
                characters.append(len(text))
            rows_with.update(in_row)
        return cls(
            ranks,
            tokens=np.array(tokens),
            characters=np.array(characters),
            places=np.array(places),
            words=np.array(numbers),
            counts=np.array(counts),
            names=names,
            rows_with=np.array([rows_with[number] for number in range(len(names))], np.int64),
        )

    def vocabulary(self) -> dict[str, int]:
        """Return the words in at least ``MINIMUM_ROWS`` rows with their numbers, in alphabetical order."""
        kept = sorted(word for word, number in self.names.items() if self.rows_with[number] >= MINIMUM_ROWS)
        return {word: index for index, word in enumerate(kept)}

    def counted(self, vocabulary: dict[str, int]) -> "WordCounts":
        """Return the counts of a vocabulary's words in each response."""
        columns = np.array([vocabulary.get(word, -1) for word in self.names], np.int64)[self.words]
        known = columns >= 0
        shape = (len(self.tokens), len(vocabulary))
        return WordCounts(self.places[known], columns[known], self.counts[known].astype(np.float64), shape)


class WordCounts(NamedTuple):
    """A sparse matrix of ``shape`` [R, words] with the counts at rows and columns.

    Its products take less memory than those of a sparse tensor of torch.
    """

    rows: Array
    columns: Array
    counts: NDArray[np.float64]
    shape: tuple[int, int]

    def times(self, weights: Tensor) -> Tensor:
        """Return the matrix times ``weights`` [words]: [R]."""
        products = self.counts * weights.numpy()[self.columns]
        return torch.from_numpy(np.bincount(self.rows, products, self.shape[0]))

    def transposed_times(self, values: Tensor) -> Tensor:
        """Return the transposed matrix times ``values`` [R]: [words]."""
        products = self.counts * values.numpy()[self.rows]
        return torch.from_numpy(np.bincount(self.columns, products, self.shape[1]))


def preference_baselines(
    train: Iterable[TokenizedRow[RankingRow]], held_out: Iterable[TokenizedRow[RankingRow]]
) -> dict[str, dict[str, float]]:
    """Return the held-out accuracy (see ``preference_accuracy``) of three models that read only the responses.

    ``length_tokens`` and ``length_characters``: prefer the longer response, or the shorter if that is right more often
    on the training rows; ``sign`` is 1 or -1. ``bag_of_words``: logistic regression on the difference of word counts;
    ``words`` is its vocabulary.
    """
    seen, measured = Responses.of(train), Responses.of(held_out)
    vocabulary = seen.vocabulary()
    weights = word_weights(seen.counted(vocabulary), seen.ranks)
    gaps = preference_gaps(measured.counted(vocabulary).times(weights), measured.ranks)
    return {
        "length_tokens": _by_length(seen.tokens, seen.ranks, measured.tokens, measured.ranks),
        "length_characters": _by_length(seen.characters, seen.ranks, measured.characters, measured.ranks),
        "bag_of_words": {**preference_accuracy(gaps), "words": len(vocabulary)},
    }


def _by_length(lengths: Array, ranks: list[Ranks], held_out: Array, held_out_ranks: list[Ranks]) -> dict[str, float]:
    sign = 1 if torch.cat(_length_gaps(lengths, ranks)).sign().sum() >= 0 else -1
    return {**preference_accuracy([sign * gaps for gaps in _length_gaps(held_out, held_out_ranks)]), "sign": sign}


def _length_gaps(lengths: Array, ranks: list[Ranks]) -> list[Tensor]:
    return preference_gaps(torch.from_numpy(lengths).float(), ranks)


def word_weights(counts: WordCounts, ranks: Sequence[Ranks]) -> Tensor:
    """Return the weights [words] that minimize the pairs' logistic loss plus ``PENALTY / 2 * |weights|^2``.

    ``counts`` [R, words] are those of the responses of rows with ``ranks``.
    """
    pairs, _ = flat_pairs(ranks)
    weights = torch.zeros(counts.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=LBFGS_STEPS, line_search_fn="strong_wolfe")

    def loss() -> float:
        """Return the penalized loss over all pairs, and leave its gradient in the weights."""
        current = weights.detach()
        scores = counts.times(current).requires_grad_()
        total = softplus(-score_gaps(scores, pairs)).sum()
        total.backward()
        assert scores.grad is not None
        weights.grad = counts.transposed_times(scores.grad) + PENALTY * current
        return total.item() + PENALTY / 2 * current.square().sum().item()

    optimizer.step(loss)
    return weights.detach()
