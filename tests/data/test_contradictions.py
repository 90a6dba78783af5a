"""Responses that are judged in both ways are counted, within a source and across sources."""

import json
from pathlib import Path

import numpy as np
import pytest

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.contradictions import contradictions, judgement_keys
from plaudit.data.inspect import inspect
from plaudit.data.loading import load_rows
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row
from plaudit.data.splits import key_of, prompt_key
from plaudit.data.store.cache import DataCache

AT = Origin("rows.jsonl", 1)


def ranked(ranks: str, responses: str = "abcd", prompt: str = "Q") -> RankingRow:
    return RankingRow(prompt, tuple(responses[: len(ranks)]), tuple(map(int, ranks)), AT)


def labeled(labels: str, responses: str = "abcd", prompt: str = "Q") -> LabeledRow:
    return LabeledRow(prompt, tuple(responses[: len(labels)]), tuple(label == "+" for label in labels), AT)


@pytest.mark.parametrize(
    "rows, expected",
    [
        ([labeled("+"), labeled("-")], (1, 1)),
        ([labeled("+"), labeled("-", "a "), labeled("+"), labeled("+-", "bc")], (1, 3)),
        ([labeled("+"), labeled("-", prompt="R"), labeled("-", "b")], (0, 3)),
        ([labeled("+-", "aa")], (1, 1)),
        ([ranked("01"), ranked("10")], (1, 1)),
        ([ranked("01"), ranked("10", "ba")], (0, 1)),
        ([ranked("01"), ranked("01", "ba"), ranked("01")], (1, 1)),
        ([ranked("01"), ranked("10", prompt="R")], (0, 2)),
        # a > b > c, and b > a = c: of the pairs ab, ac, bc only ab is ranked in both orders.
        ([ranked("012"), ranked("101")], (1, 3)),
        ([ranked("0123"), ranked("3210")], (6, 6)),
        ([ranked("00", "ab"), ranked("01", "aa")], (0, 0)),
        ([PromptRow("Q", AT), ResponseRow("Q", "a", AT)], (0, 0)),
        (
            [RankingRow((Message("user", "Q"),), ("a", "b"), (0, 1), AT),
             RankingRow((Message("user", "Q"),), ("b", "a"), (0, 1), AT),
             RankingRow((Message("system", "S"), Message("user", "Q")), ("b", "a"), (0, 1), AT)],
            (1, 2),
        ),
        ([labeled("+", "\ud800"), labeled("-", "\ud800")], (1, 1)),
    ],
)  # fmt: skip
def test_contradictions_are_counted(rows: list[Row], expected: tuple[int, int]) -> None:
    keys = np.array([key for row in rows for key in judgement_keys(row, key_of(prompt_key(row)))], np.uint64)
    assert contradictions(keys) == expected
    assert contradictions(keys[::-1]) == expected


def test_a_stage_and_inspect_say_the_number(tmp_path: Path) -> None:
    first = [{"prompt": f"Q{n}", "chosen": "yes", "rejected": "no"} for n in range(8)]
    second = [{"prompt": f"Q{n}", "chosen": "no", "rejected": "yes"} for n in range(3)]
    paths = [tmp_path / "first.jsonl", tmp_path / "second.jsonl"]
    for path, records in zip(paths, (first, second), strict=True):
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
    config = DataConfig.model_validate({"sources": [str(path) for path in paths], "held_out_fraction": 0.2})
    rows = load_rows(config, RankingRow, None, 0, DataCache(tmp_path / "cache"))
    assert any(warning.startswith("3 of 8 different pairs of responses") for warning in rows.warnings())
    labels = load_rows(config, LabeledRow, None, 0, DataCache(tmp_path / "cache"))
    assert any(warning.startswith("6 of 16 different responses are labeled") for warning in labels.warnings())
    assert inspect(SourceConfig(path=str(paths[0]))).contradictions == (0, 8)
    both = tmp_path / "both.jsonl"
    both.write_text(paths[0].read_text() + paths[1].read_text())
    assert inspect(SourceConfig(path=str(both))).contradictions == (3, 8)
    assert inspect(SourceConfig(path=str(both)), ResponseRow).contradictions is None
