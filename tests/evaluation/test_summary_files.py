"""The summary as CSV and Markdown."""

import csv
import json
from pathlib import Path

import pandas
import pytest

from plaudit.evaluation.summary import csv_text, flattened, markdown_table, write_summary
from plaudit.files import write_atomically

SUMMARY = {
    "prompts": 2,
    "models": {
        "sft": {"scores": {"gold": {"mean": 0.5, "standard_error": 0.25}}, "length": 12.0},
        "ppo": {
            "scores": {"gold": {"mean": 0.75, "standard_error": 0.125}},
            "win_rate": {"gold": {"rate": 1.0, "low": 0.25, "high": 1.0}},
            "length": 10.0,
        },
    },
    "samples": [
        {
            "prompt": "a | b",
            "responses": {
                "sft": {"text": "one\ntwo", "scores": {"gold": 0.5}},
                "ppo": {"text": 'say "hi", please', "scores": {"gold": 1.0}},
            },
        }
    ],
}


def test_files(tmp_path: Path) -> None:
    write_summary(SUMMARY, tmp_path / "evaluate")
    assert json.loads((tmp_path / "evaluate" / "summary.json").read_text()) == SUMMARY
    with (tmp_path / "evaluate" / "summary.csv").open() as file:
        models = list(csv.DictReader(file))
    assert models == [
        {
            "model": "sft",
            "scores/gold/mean": "0.5",
            "scores/gold/standard_error": "0.25",
            "length": "12.0",
            "win_rate/gold/rate": "",
            "win_rate/gold/low": "",
            "win_rate/gold/high": "",
        },
        {
            "model": "ppo",
            "scores/gold/mean": "0.75",
            "scores/gold/standard_error": "0.125",
            "length": "10.0",
            "win_rate/gold/rate": "1.0",
            "win_rate/gold/low": "0.25",
            "win_rate/gold/high": "1.0",
        },
    ]
    with (tmp_path / "evaluate" / "samples.csv").open(newline="") as file:
        samples = list(csv.DictReader(file))
    assert samples == [
        {"prompt": "a | b", "model": "sft", "response": "one\ntwo", "gold": "0.5"},
        {"prompt": "a | b", "model": "ppo", "response": 'say "hi", please', "gold": "1.0"},
    ]
    text = (tmp_path / "evaluate" / "summary.md").read_text()
    assert "| a \\| b | sft | one<br>two | 0.5 |\n" in text


def test_flattened() -> None:
    assert flattened({"a": {"b": {"c": 1}, "d": 2}, "e": 3}) == {"a/b/c": 1, "a/d": 2, "e": 3}


def test_markdown_table() -> None:
    rows = [{"model": "one", "score": 0.123456}, {"model": "two", "wins": 1}]
    assert markdown_table(rows) == (
        "| model | score | wins |\n| --- | --- | --- |\n| one | 0.1235 |  |\n| two |  | 1 |\n"
    )


HOSTILE = [
    *("=1+1", "+1", "-1", "@SUM(A1)", "'=1", "'", "\t=1", "\rx", "a\rb", "a\r\nb", "\n", "\r", 'say "x", y', ",", '"'),
    *("", " ", "a\0b", "NaN", "null", "\u2028", "é", "\x85", "# x", "=", '"\r"', "a;b"),
]


@pytest.mark.parametrize("text", HOSTILE)
def test_every_text_comes_back_from_csv(tmp_path: Path, text: str) -> None:
    """Rows before and after show that the text neither splits nor swallows rows."""
    rows = [{"text": "before", "score": -1.5}, {"text": text, "score": 2.0}, {"text": "after", "score": -3.0}]
    file = tmp_path / "a.csv"
    write_atomically(file, csv_text(rows))
    with file.open(newline="", encoding="utf-8") as opened:
        by_csv = list(csv.DictReader(opened))
    by_pandas = pandas.read_csv(file, keep_default_na=False).to_dict("records")
    for read in (by_csv, by_pandas):
        assert [row["text"].removeprefix("'") for row in read] == ["before", text, "after"]
        assert [float(row["score"]) for row in read] == [-1.5, 2.0, -3.0]
        assert not read[1]["text"].startswith(("=", "+", "-", "@", "\t", "\r"))


def test_no_samples(tmp_path: Path) -> None:
    write_summary({**SUMMARY, "samples": []}, tmp_path)
    assert (tmp_path / "samples.csv").read_text().strip() == ""
