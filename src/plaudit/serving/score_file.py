"""Scores all responses of a file, in batches, and compares the scores with the judgements in it."""

import math
from array import array
from collections.abc import Callable, Sequence
from typing import Any

import torch

from plaudit.data.formats.base import Record
from plaudit.data.rows import LabeledRow, PromptRow, RankingRow, Row
from plaudit.errors import PlauditError
from plaudit.evaluation.reward_accuracy import accuracy_of_counts, preference_gaps, right_pairs
from plaudit.runs.progress import StageProgress
from plaudit.serving.files import ScannedFile
from plaudit.serving.reward import Reward

ROWS_AT_ONCE = 256


class ScoreTally:
    """Counts scores and their agreement with judgements. Memory grows by 16 bytes for each judged row."""

    def __init__(self) -> None:
        self.scores = Moments()
        self.of_label = {True: Moments(), False: Moments()}
        self._right, self._pairs = array("d"), array("d")

    def add(self, row: Row, scores: Sequence[float]) -> None:
        """Count a row with the scores of its responses."""
        self.scores.add(scores)
        if isinstance(row, RankingRow):
            [gaps] = preference_gaps(torch.tensor(scores), [row.ranks])
            if len(gaps):
                self._right.append(right_pairs(gaps))
                self._pairs.append(len(gaps))
        elif isinstance(row, LabeledRow):
            for score, label in zip(scores, row.desirable, strict=True):
                self.of_label[label].add([score])

    def accuracy(self) -> dict[str, float] | None:
        """Return what ``preference_accuracy`` does for all rankings; None without one."""
        if not self._pairs:
            return None
        return accuracy_of_counts(torch.tensor(self._right), torch.tensor(self._pairs))


class Moments:
    """Number, mean, deviation and range of the numbers so far."""

    def __init__(self) -> None:
        self.number, self.mean, self._squares = 0, 0.0, 0.0
        self.lowest, self.highest = math.inf, -math.inf

    def add(self, values: Sequence[float]) -> None:
        """Count numbers (Welford 1962)."""
        for value in values:
            self.number += 1
            before, self.mean = self.mean, self.mean + (value - self.mean) / self.number
            self._squares += (value - before) * (value - self.mean)
            self.lowest, self.highest = min(self.lowest, value), max(self.highest, value)

    @property
    def deviation(self) -> float:
        """The standard deviation; 0 for a single number."""
        return math.sqrt(self._squares / (self.number - 1)) if self.number > 1 else 0.0


def score_file(
    reward: Reward, rows: ScannedFile[Row], write: Callable[[Any], None], column: str | None = None
) -> ScoreTally:
    """Score every response; call ``write`` with each row's record and its score, and return the counts.

    The column is ``score`` for a row with one response, otherwise ``scores``, a list, next to the ``responses``;
    ``column`` names another one. Raises PlauditError if a record has this column already.
    """
    tally, done = ScoreTally(), 0
    with StageProgress("score", rows.rows) as progress:
        for batch in rows.batches(ROWS_AT_ONCE):
            pairs = [_pairs(row, record) for row, record in batch]
            flat = [pair for own in pairs for pair in own]
            found = reward.score_samples(reward.samples([row for row, _ in flat], [text for _, text in flat]))
            scores = iter(found.tolist())
            for (row, record), texts in zip(batch, pairs, strict=True):
                own = [next(scores) for _ in texts]
                tally.add(row, own)
                write(_line(row, record, own, column))
            done += len(batch)
            progress.update(done, f"mean {tally.scores.mean:.4g}")
    return tally


def refuse_without_responses(rows: ScannedFile[Row]) -> None:
    """Raise PlauditError if the first row of a file is no prompt with a response."""
    [(row, record)] = next(rows.batches(1))
    _pairs(row, record)


def _pairs(row: Row, record: Record) -> list[tuple[PromptRow, str]]:
    """Return a row's prompt with each of its responses; a prompt may have unjudged ones in a column ``responses``."""
    responses: Any = row.responses or record.get("responses")
    is_list = isinstance(responses, list | tuple) and all(isinstance(text, str) for text in responses)
    if row.prompt is None or not is_list or not responses:
        lacks = "no prompt" if row.prompt is None else "no responses"
        raise PlauditError(
            f"{row.origin.source} line {row.origin.line}: {lacks}; give a prompt with a response, or with responses"
        )
    prompt = PromptRow(row.prompt, row.origin, record)
    return [(prompt, text) for text in responses]


def _line(row: Row, record: Record, scores: Sequence[float], column: str | None) -> dict[str, Any]:
    several = len(scores) > 1
    name = column or ("scores" if several else "score")
    if name in record:
        raise PlauditError(
            f"{row.origin.source} line {row.origin.line}: the column {name} exists already; name another with --column"
        )
    responses = {"responses": list(row.responses)} if several and "responses" not in record else {}
    return {**record, **responses, name: list(scores) if several else scores[0]}
