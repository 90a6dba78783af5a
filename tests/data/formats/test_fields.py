"""The columns that a prompt carries along reach a reward function, from the file on."""

import json
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import FunctionReward, SourceConfig
from plaudit.data.rows import PromptRow
from plaudit.data.sources import read_source
from plaudit.rewards.function import FunctionSource
from reward_samples import sample_of


def right(prompts: list[str], responses: list[str], fields: list[dict[str, Any]]) -> list[float]:
    return [float(str(row["answer"]) in response) for row, response in zip(fields, responses, strict=True)]


@pytest.mark.parametrize(
    "record, fields",
    [
        ({"prompt": "2 + 2?", "answer": "4"}, {"answer": "4"}),
        ({"question": "2 + 2?", "answer": "4", "level": 1}, {"answer": "4", "level": 1}),
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, {"output": "4"}),
        ({"prompt": "2 + 2?", "solution": "4", "label": None}, {"solution": "4", "label": None}),
        ({"messages": [{"role": "user", "content": "2 + 2?"}], "answer": "4"}, {"answer": "4"}),
        ({"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "id": 7}, {"id": 7}),
    ],
)
def test_what_a_prompt_carries(tmp_path: Path, record: dict[str, Any], fields: dict[str, Any]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(record))
    (row,) = read_source(SourceConfig(path=str(path)), PromptRow).rows
    assert dict(row.fields) == fields


def test_they_reach_the_reward_function(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "2 + 2?", "answer": "4"}\n{"question": "2 + 3?", "answer": "5"}\n')
    rows = read_source(SourceConfig(path=str(path)), PromptRow).rows
    source = FunctionSource(FunctionReward(name="right", function="rewards:right"), right)
    samples = [sample_of("a", text, **row.fields) for row, text in zip(rows, ["It is 4.", "It is 6."], strict=True)]
    assert source.score(samples).tolist() == [1.0, 0.0]
