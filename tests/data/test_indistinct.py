"""Responses that truncation makes equal are dropped where they were judged differently."""

import random
from collections.abc import Sequence

import pytest

from plaudit.batching.trees import PromptTree
from plaudit.config.schema import DataConfig
from plaudit.data.indistinct import IDENTICAL, critical_lengths
from plaudit.data.rows import LabeledRow, Origin, RankingRow, ResponseRow, Row
from plaudit.data.tokenization import INDISTINCT, INDISTINCT_ROWS, Tokenized, tokenize_rows
from tiny_tokenizers import byte_level

AT = Origin("rows.jsonl", 3)


def _cut(*rows: Row) -> Tokenized[Row]:
    config = DataConfig.model_validate({"sources": ["f"], "max_response_tokens": 3, "overlong": "truncate"})
    return tokenize_rows(list(rows), byte_level(), config, 64)


def test_pairs_that_are_equal_after_truncation_are_dropped() -> None:
    good = RankingRow("zq", ("zx", "zq"), (0, 1), AT)
    done = _cut(RankingRow("zq", ("zqzqx", "zqzqz"), (0, 1), AT), good)
    assert [row.row for row in done.rows] == [good]
    assert done.counted == {INDISTINCT_ROWS: 1}


def test_members_of_a_ranking_that_are_equal_are_dropped() -> None:
    done = _cut(RankingRow("zq", ("zqzqx", "zx", "zqzqz", "xx"), (0, 1, 3, 2), AT))
    (row,) = done.rows
    assert row.row == RankingRow("zq", ("zx", "xx"), (0, 1), AT)
    assert len(row.tree.responses) == 2
    assert done.counted == {INDISTINCT: 1}


def test_equal_members_of_one_rank_stay() -> None:
    ranking = RankingRow("zq", ("zqzqx", "zqzqz", "x"), (0, 0, 1), AT)
    done = _cut(ranking)
    assert [row.row for row in done.rows] == [ranking]
    assert done.counted == {}


def test_labels_that_contradict_each_other_are_dropped() -> None:
    done = _cut(LabeledRow("zq", ("zqzqx", "zqzqz", "x"), (True, False, False), AT))
    (row,) = done.rows
    assert row.row == LabeledRow("zq", ("x",), (False,), AT)


def test_equal_members_with_one_label_are_dropped() -> None:
    done = _cut(LabeledRow("zq", ("zqzqx", "zqzqz"), (True, True), AT), LabeledRow("zq", ("x",), (True,), AT))
    assert [row.row.responses for row in done.rows] == [("x",)]
    assert done.counted == {INDISTINCT_ROWS: 1}


def _row(responses: Sequence[Sequence[int]], judgements: Sequence[int], labels: bool) -> tuple[Row, PromptTree]:
    texts, tree = tuple(map(str, responses)), PromptTree((9,), tuple(map(tuple, responses)))
    if labels:
        return LabeledRow("", texts, tuple(map(bool, judgements)), AT), tree
    return RankingRow("", texts, tuple(judgements), AT), tree


def test_critical_lengths_by_hand() -> None:
    # The first two are equal up to three tokens; what is left has two ranks until all begin with 1.
    row = _row([(1, 2, 3, 4), (1, 2, 3, 5), (1, 6, 7), (8, 1)], (0, 1, 2, 3), labels=False)
    assert critical_lengths(*row) == (3, 1)
    assert critical_lengths(*_row([(1, 2), (1, 2)], (0, 1), labels=False)) == (IDENTICAL, IDENTICAL)
    assert critical_lengths(*_row([(1, 2), (1, 2, 3)], (0, 1), labels=False)) == (2, 2)
    assert critical_lengths(*_row([(1, 2), (3, 2)], (0, 1), labels=False)) == (0, 0)
    assert critical_lengths(*_row([(1, 2), (1, 3)], (1, 1), labels=True)) == (0, 1)
    assert critical_lengths(ResponseRow("", "1", AT), PromptTree((9,), ((1,),))) == (0, 0)


@pytest.mark.parametrize("labels", [True, False])
def test_critical_lengths_decide_as_the_responses_themselves(labels: bool) -> None:
    generator = random.Random(0)
    for _ in range(300):
        count = generator.randint(2, 6)
        responses = [[generator.randint(1, 2) for _ in range(generator.randint(1, 5))] for _ in range(count)]
        judgements = [0, *(generator.randint(0, 1 if labels else 2) for _ in range(count - 2)), 1]
        row, tree = _row(responses, judgements, labels)
        indistinct_at, nothing_left_at = critical_lengths(row, tree)
        for length in (1, 2, 3, 4, 5, IDENTICAL):
            cut = [tuple(response[:length]) for response in responses]
            judged = {response: {judgements[i] for i in range(count) if cut[i] == response} for response in cut}
            left = [i for i in range(count) if len(judged[cut[i]]) == 1]
            few = len({judgements[i] for i in left}) < (1 if labels else 2)
            assert (length <= indistinct_at) == (len(left) < count)
            assert (length <= nothing_left_at) == (few or (len(left) > 1 and len({cut[i] for i in left}) == 1))
