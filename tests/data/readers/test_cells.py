"""Cells of tables are typed per column: missing values, lists of messages, infinite numbers; texts stay texts."""

import json
from pathlib import Path
from typing import Any

import numpy
import pandas
import pytest

from loaded_rows import load_rows
from numbered_records import numbered_records
from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.readers import Malformed
from plaudit.data.readers.cells import parse_list
from plaudit.data.rows import RankingRow
from plaudit.data.sources import read_source
from plaudit.errors import PlauditError

MESSAGES = [{"content": 'Hi, it\'s "me"\n', "role": "user"}, {"content": "['x' 'y'] array(1)", "role": "assistant"}]


def _read(path: Path, table: pandas.DataFrame, **options: Any) -> list[Any]:
    table.to_csv(path, index=False, **options)
    return [rec.reason if isinstance(rec, Malformed) else rec for _, rec in numbered_records(str(path))]


def _column(path: Path, cells: list[Any]) -> list[Any]:
    table = pandas.DataFrame({"x": cells, "other": range(len(cells))})
    return [rec if isinstance(rec, str) else rec["x"] for rec in _read(path, table)]


def test_a_column_of_almost_nothing_but_missing_values_keeps_them_as_texts(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    assert _column(path, ["nan", "nan", "x"]) == ["nan", "nan", "x"]
    assert _column(path, ["nan", "y", "x"]) == [None, "y", "x"]
    pandas.DataFrame({"prompt": ["a", "b"], "chosen": ["c", "d"], "rejected": ["nan", "None"]}).to_csv(
        path, index=False
    )
    with pytest.raises(PlauditError, match="no ranking row"):
        load_rows(DataConfig(sources=[SourceConfig(path=str(path))], max_bad_fraction=1), RankingRow, None, 0)
    assert read_source(SourceConfig(path=str(path)), RankingRow).counts.bad_records == 2


def _array(value: list[Any]) -> Any:
    return numpy.array(value, dtype=object)


def test_whole_cells_of_missing_values_are_missing_and_texts_stay(tmp_path: Path) -> None:
    texts = ["None of these", "nano", "Null Island", "N/A?", " nan", "[nan]", "none"]
    missing = ["nan", "None", "null", "NA", "N/A", "<NA>", "NaN"]
    assert _column(tmp_path / "rows.csv", [*texts, *missing]) == [*texts, *[None] * len(missing)]


@pytest.mark.parametrize(
    "write",
    [json.dumps, str, lambda value: str(_array(value)), lambda value: repr(_array(value))],
    ids=["JSON", "Python", "numpy", "numpy's repr"],
)
def test_message_lists_in_cells_are_parsed(tmp_path: Path, write: Any) -> None:
    cells = [write(MESSAGES), write(MESSAGES[:1]), "nan", write(MESSAGES)]
    assert _column(tmp_path / "rows.csv", cells) == [MESSAGES, MESSAGES[:1], None, MESSAGES]


def test_frames_with_message_lists_are_read_back(tmp_path: Path) -> None:
    table = pandas.DataFrame({"chosen": [MESSAGES] * 3, "rejected": [MESSAGES[:1]] * 3})
    assert _read(tmp_path / "rows.csv", table) == table.to_dict("records")
    pandas.DataFrame({"chosen": [MESSAGES] * 3}).to_parquet(tmp_path / "rows.parquet")
    arrays = pandas.read_parquet(tmp_path / "rows.parquet")
    assert _read(tmp_path / "rows.csv", arrays) == [{"chosen": MESSAGES}] * 3


def test_a_cell_that_cannot_be_parsed_among_lists_is_rejected(tmp_path: Path) -> None:
    cells = [str(MESSAGES), str(MESSAGES)[:-5], "text", "[1, ..., 2]", str(MESSAGES), str(MESSAGES), str(MESSAGES)]
    read = _column(tmp_path / "rows.csv", cells)
    assert read == [
        MESSAGES,
        *["x is not a list as JSON, Python or numpy writes it"] * 3,
        *[MESSAGES] * 3,
    ]


@pytest.mark.parametrize(
    "cells",
    [
        ["[1, 2, 3]", "[4, 5]"],
        ['["a", "b"]', '["c"]'],
        ['{"name": "Bob"}', '{"name": "Eve"}'],
        ["[citation needed] Oh", "[sic]"],
        ["4", "5"],
        [str(MESSAGES), "a text", "another one"],
        ["True", "1e5"],
    ],
)
def test_other_texts_stay_texts(tmp_path: Path, cells: list[str]) -> None:
    assert _column(tmp_path / "rows.csv", cells) == cells


def test_lists_of_texts_as_numpy_prints_them_are_not_joined(tmp_path: Path) -> None:
    values = [["a b", "c's"], ["d", "e", "f"]]
    assert _column(tmp_path / "rows.csv", [str(numpy.array(value)) for value in values]) == values


def test_infinite_numbers_in_a_column_of_numbers_are_named(tmp_path: Path) -> None:
    reason = "NaN or an infinite number in x"
    assert _column(tmp_path / "rows.csv", ["1.5", "inf", "nan", "-Infinity", "1e999", "2"]) == [
        "1.5", reason, None, reason, reason, "2"
    ]  # fmt: skip
    assert _column(tmp_path / "rows.csv", ["to inf", "inf"]) == ["to inf", "inf"]


@pytest.mark.parametrize(
    "cell, value",
    [
        ("[1 -2 3]", [1, -2, 3]),
        ("[[0.5 1.]\n [2. 3.]]", [[0.5, 1.0], [2.0, 3.0]]),
        ("array([list(['a'])], dtype=object)", None),
        ("['a' 'b'", None),
        ("[1, {2}]", None),
        ("[b'x']", None),
        ("[__import__('os')]", None),
        ("[" * 5000, None),
        ("[" + "9" * 5000 + "]", [float("inf")]),
        ("['a' ... 'z']", None),
        ("text", None),
    ],
)
def test_lists_in_cells(cell: str, value: Any) -> None:
    assert parse_list(cell) == value
