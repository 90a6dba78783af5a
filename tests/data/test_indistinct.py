"""Responses that truncation makes equal are dropped where they were judged differently."""

from plaudit.config.schema import DataConfig
from plaudit.data.rows import LabeledRow, Origin, RankingRow, Row
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
    assert done.counted == {INDISTINCT: 2}


def test_equal_members_of_one_rank_stay() -> None:
    ranking = RankingRow("zq", ("zqzqx", "zqzqz", "x"), (0, 0, 1), AT)
    done = _cut(ranking)
    assert [row.row for row in done.rows] == [ranking]
    assert done.counted == {}


def test_labels_that_contradict_each_other_are_dropped() -> None:
    done = _cut(LabeledRow("zq", ("zqzqx", "zqzqz", "x"), (True, False, False), AT))
    (row,) = done.rows
    assert row.row == LabeledRow("zq", ("x",), (False,), AT)
