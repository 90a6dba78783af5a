"""A kind of row from outside the package: registered with a format, then read, split, tokenized and inspected."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from typer.testing import CliRunner

from loaded_rows import load_rows
from plaudit.cli.main import app
from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.formats.base import Format, Record, ranking, text_in
from plaudit.data.formats.registry import FORMATS
from plaudit.data.inspect import inspect
from plaudit.data.rows import Origin, Prompt, RankingRow, Row
from plaudit.data.rows.registry import ROW_KINDS
from plaudit.data.tokenization import tokenize_rows
from plaudit.errors import PlauditError
from tiny_tokenizers import byte_level


@dataclass(frozen=True)
class RatedRow:
    """A prompt with responses that got one to five stars each."""

    kind: ClassVar[str] = "rated"
    richness: ClassVar[int] = 4
    prompt: Prompt
    responses: tuple[str, ...]
    stars: tuple[int, ...]
    origin: Origin

    def judgements(self) -> tuple[str, ...]:
        return tuple(f"{stars} stars" for stars in self.stars)

    def as_kind(self, kind: type[Row], columns: Mapping[str, Any]) -> Row | None:
        if kind is RankingRow:
            return ranking(self.prompt, self.responses, [-stars for stars in self.stars], self.origin)
        return None


def _rated(record: Record, origin: Origin, kind: type[Row]) -> Iterator[Row]:
    yield RatedRow(text_in(record, "prompt"), tuple(record["responses"]), tuple(record["stars"]), origin)


@pytest.fixture
def rated() -> Iterator[None]:
    ROW_KINDS.register("rated", RatedRow)
    FORMATS.register("rated", Format("rated", ("prompt", "responses", "stars"), (RatedRow, RankingRow), _rated))
    yield
    ROW_KINDS.unregister("rated")
    FORMATS.unregister("rated")


@pytest.fixture
def file(tmp_path: Path) -> str:
    records = [{"prompt": f"p{n}", "responses": [" a", " b", " c"], "stars": [2, 5, 2]} for n in range(20)]
    path = tmp_path / "rated.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


@pytest.mark.usefixtures("rated")
def test_it_is_recognized_read_and_split(file: str) -> None:
    loaded = load_rows(DataConfig.model_validate({"sources": [file], "held_out_fraction": 0.3}), RatedRow, None, 0)
    assert loaded.counts[0].format == "rated"
    rows = sorted([*loaded.train, *loaded.held_out], key=lambda row: row.origin.line)
    assert rows == [
        RatedRow(f"p{line - 1}", (" a", " b", " c"), (2, 5, 2), Origin(file, line)) for line in range(1, 21)
    ]
    assert loaded.held_out


@pytest.mark.usefixtures("rated")
def test_it_converts_to_a_simpler_kind(file: str) -> None:
    config = DataConfig.model_validate({"sources": [file], "held_out_fraction": 0.0})
    assert load_rows(config, RankingRow, None, 0).train[0] == RankingRow(
        "p0", (" a", " b", " c"), (1, 0, 1), Origin(file, 1)
    )


@pytest.mark.usefixtures("rated")
def test_it_becomes_trees(file: str) -> None:
    tokenizer = byte_level()
    config = DataConfig.model_validate({"sources": [file], "held_out_fraction": 0.0})
    trees = tokenize_rows(load_rows(config, RatedRow, None, 0).train, tokenizer, config, 64).trees
    assert [tokenizer.decode(response) for response in trees[3].responses] == [" a<end>", " b<end>", " c<end>"]
    assert tokenizer.decode(trees[3].prompt) == "p3"


@pytest.mark.usefixtures("rated")
def test_it_is_inspected(file: str) -> None:
    found = inspect(SourceConfig(path=file))
    assert (found.kind, found.kinds, found.prompts) == ("rated", ("rated", "ranking"), 20)
    shown = CliRunner().invoke(app, ["data", "inspect", file, "--kind", "rated"])
    assert shown.exit_code == 0
    assert shown.output.count("2 stars") == 4
    assert shown.output.count("5 stars") == 2


def test_the_command_imports_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
from plaudit.data.formats.base import Format
from plaudit.data.formats.registry import FORMATS
from plaudit.data.rows import TextRow

def read(record, origin, kind):
    yield TextRow(record["poem"], origin)

FORMATS.register("poems_of_a_test", Format("poems_of_a_test", ("poem",), (TextRow,), read))
"""
    (tmp_path / "poems_of_a_test.py").write_text(source)
    (tmp_path / "poems.jsonl").write_text('{"poem": "a"}\n')
    monkeypatch.syspath_prepend(tmp_path)
    try:
        arguments = ["data", "inspect", str(tmp_path / "poems.jsonl"), "--plugin", "poems_of_a_test"]
        assert "poems_of_a_test" in CliRunner().invoke(app, arguments).output
    finally:
        FORMATS.unregister("poems_of_a_test")
    missing = CliRunner().invoke(app, ["data", "inspect", "a.jsonl", "--plugin", "no_such_module"])
    assert str(missing.exception).startswith("--plugin: ")


def test_without_registration_it_is_unknown() -> None:
    with pytest.raises(PlauditError, match="choose from text, response, ranking, labeled, prompt"):
        ROW_KINDS["rated"]
