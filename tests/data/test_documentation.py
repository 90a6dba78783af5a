"""The page on data formats names every format, with examples that are recognized and the right columns."""

import json
import re
from pathlib import Path

import pytest

from plaudit.config.schema import SourceConfig
from plaudit.data.formats.registry import FORMATS
from plaudit.data.formats.table import format_table
from plaudit.data.rows import Row
from plaudit.data.sources import SourceRows, read_source

PAGE = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(re.findall(r"^`(\w+)`[^\n]*\n```json\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))


def test_every_format_is_documented() -> None:
    assert set(EXAMPLES) == set(FORMATS)


def test_the_table_is_the_one_of_the_registry() -> None:
    written = [line for line in PAGE.splitlines() if line.startswith(("| format", "| ---", "| `"))]
    start = written.index(format_table()[0])
    assert written[start : start + len(FORMATS) + 2] == format_table()


@pytest.mark.parametrize("name", FORMATS)
def test_examples_are_recognized_and_valid(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(EXAMPLES[name], encoding="utf-8")
    read: SourceRows[Row] = read_source(
        SourceConfig(path=str(path), format=name if FORMATS[name].on_request else "auto")
    )
    assert read.row_format.name == name
    assert read.rows
    assert not read.rejects
    assert all(json.loads(line) for line in EXAMPLES[name].splitlines())
