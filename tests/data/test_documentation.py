"""The page on data formats names every format, with examples that are recognised and columns that are true."""

import json
import re
from pathlib import Path

import pytest

from plaudit.config.schema import SourceConfig
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import Row
from plaudit.data.sources import SourceRows, read_source

PAGE = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text(encoding="utf-8")
EXAMPLES: dict[str, str] = dict(re.findall(r"^`(\w+)`[^\n]*\n```json\n(.*?)```", PAGE, re.DOTALL | re.MULTILINE))
TABLE: dict[str, tuple[str, str]] = {
    name: (columns, kinds) for name, columns, kinds in re.findall(r"^\| `(\w+)` \| (`[^|]*) \| ([^|]*) \|", PAGE, re.M)
}


def test_every_format_is_documented() -> None:
    assert set(EXAMPLES) == set(TABLE) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_examples_are_recognised_and_valid(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(EXAMPLES[name], encoding="utf-8")
    read: SourceRows[Row] = read_source(SourceConfig(path=str(path)))
    assert read.row_format.name == name
    assert read.rows
    assert not read.rejects
    assert all(json.loads(line) for line in EXAMPLES[name].splitlines())


@pytest.mark.parametrize("name", FORMATS)
def test_the_table_is_true(name: str) -> None:
    columns, kinds = TABLE[name]
    assert set(FORMATS[name].columns) <= set(re.findall(r"`(\w+)`", columns))
    assert tuple(kinds.split(", ")) == FORMATS[name].kind_names
