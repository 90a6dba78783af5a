"""Datasets of the hub: names, settings, and rows that are counted."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from numbered_records import numbered_records
from plaudit.config.schema import SourceConfig
from plaudit.data.readers import Malformed
from plaudit.data.rows import Origin, RankingRow
from plaudit.data.store.cache import DataCache
from plaudit.errors import PlauditError

ROWS = [{"prompt": "ä", "n": 1}, {"prompt": "two\nlines", "n": 2}]


AT = Origin("", 0)


@pytest.fixture(autouse=True)
def _reachable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub can be reached and has every dataset."""
    monkeypatch.setattr("plaudit.data.readers.hub.hub_options", lambda name, kind: {})


def test_hub_names_go_to_datasets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[object, ...]] = []

    def load_dataset(name: str, subset: str | None, *, data_files: str | None, split: str) -> list[dict[str, Any]]:
        asked.append((name, subset, data_files, split))
        return ROWS

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert list(numbered_records("somebody/rows", "en", "test")) == [(1, ROWS[0]), (2, ROWS[1])]
    list(numbered_records("somebody/rows", files="data/test-*.parquet"))
    assert asked == [("somebody/rows", "en", None, "test"), ("somebody/rows", None, "data/test-*.parquet", "train")]


def test_a_hub_dataset_that_fails_is_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise ConnectionError("cannot reach it\nat all")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(PlauditError, match=r"somebody/rows.*cannot reach it;") as caught:
        list(numbered_records("somebody/rows"))
    assert "\n" not in str(caught.value)


class Rows(list[dict[str, Any]]):
    """A dataset whose length is not the number of rows that it gives, or of which a row cannot be read."""

    def __init__(self, rows: list[dict[str, Any]], length: int, broken: bool = False) -> None:
        super().__init__(rows)
        self._length, self._broken = length, broken

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from super().__iter__()
        if self._broken:
            raise ValueError("damaged shard")


def _use(monkeypatch: pytest.MonkeyPatch, rows: Rows) -> None:
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, **__: rows))


def test_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, Rows(ROWS, 3))
    with pytest.raises(PlauditError, match="somebody/rows: only 2 of 3 rows"):
        list(numbered_records("somebody/rows"))


def test_a_row_that_cannot_be_read_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, Rows(ROWS, 3, broken=True))
    with pytest.raises(PlauditError, match=r"somebody/rows: row 3 could not be read.*damaged shard"):
        list(numbered_records("somebody/rows"))


def test_numbers_that_are_not_finite_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _use(monkeypatch, Rows([{"score": 1.0}, {"score": float("inf")}], 2))
    (_, good), (number, bad) = numbered_records("somebody/rows")
    assert good == {"score": 1.0}
    assert (number, isinstance(bad, Malformed) and bad.reason) == (2, "NaN or an infinite number in score")


def _streamed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, lines: str) -> list[tuple[str, dict[str, Any]]]:
    """Let the hub's dataset be a local file that is streamed; return what was asked of ``load_dataset``."""
    import datasets

    (tmp_path / "rows.jsonl").write_text(lines)
    load, asked = datasets.load_dataset, list[tuple[str, dict[str, Any]]]()

    def load_dataset(name: str, subset: str | None, **settings: Any) -> Any:
        asked.append((name, settings))
        file = str(tmp_path / "rows.jsonl")
        return load(
            "json", data_files=file, split="train", streaming=settings["streaming"], cache_dir=str(tmp_path / "hf")
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


PAIRS = "".join(json.dumps({"prompt": f"p{n}", "chosen": "a", "rejected": "b", "n": n}) + "\n" for n in range(20))


def test_a_stream_gives_the_rows_and_counts_of_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = _streamed(monkeypatch, tmp_path, PAIRS + json.dumps({"prompt": "p", "chosen": "a", "rejected": "a"}))
    cache = DataCache(tmp_path / "cache")
    monkeypatch.setattr("plaudit.data.store.cache.commit", lambda name, revision: f"commit of {revision}")
    streamed = cache.rows(SourceConfig(path="somebody/rows", streaming=True), RankingRow, 0)
    read = cache.rows(SourceConfig(path=str(tmp_path / "rows.jsonl")), RankingRow, 0)
    assert [replace(row, origin=AT) for row in streamed] == [replace(row, origin=AT) for row in read]
    assert [row.origin for row in streamed] == [Origin("somebody/rows", n) for n in range(1, 21)]
    assert replace(streamed.counts, source="", verdicts=[]) == replace(read.counts, source="", verdicts=[])
    assert (streamed.counts.records, streamed.counts.bad) == (21, {"identical responses": 1})
    assert {settings["revision"] for _, settings in asked} == {"commit of None"}
    assert not list((tmp_path / "hf").rglob("*.arrow")), "nothing is in the cache of datasets"


def test_the_commit_of_a_stream_is_pinned_when_it_is_first_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = _streamed(monkeypatch, tmp_path, PAIRS)
    commits = iter(["first", "second", "third"])
    monkeypatch.setattr("plaudit.data.store.cache.commit", lambda name, revision: next(commits))
    source = SourceConfig(path="somebody/rows", streaming=True)
    folder = DataCache(tmp_path / "cache").rows(source, RankingRow, 0).folder
    before = len(asked)
    assert DataCache(tmp_path / "cache").rows(source, RankingRow, 0).folder == folder
    assert len(asked) == before, "the rows are stored"
    branch = source.model_copy(update={"revision": "branch"})
    assert DataCache(tmp_path / "cache").rows(branch, RankingRow, 0).folder != folder
    DataCache(tmp_path / "cache").clear()
    assert DataCache(tmp_path / "cache").rows(source, RankingRow, 0).folder != folder
    assert [settings["revision"] for _, settings in asked] == [*["first"] * 2, *["second"] * 2, *["third"] * 2]


def test_a_stream_that_ends_early_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stream(list[dict[str, Any]]):
        info = SimpleNamespace(splits={"train": SimpleNamespace(num_examples=3)})

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=lambda *_, **__: Stream(ROWS)))
    with pytest.raises(PlauditError, match="somebody/rows: only 2 of 3 rows"):
        list(numbered_records("somebody/rows", streaming=True))


@pytest.mark.parametrize("key, value", [("revision", "main"), ("streaming", True)])
def test_files_have_no_revision_and_no_stream(tmp_path: Path, key: str, value: Any) -> None:
    (tmp_path / "rows.jsonl").write_text(PAIRS)
    with pytest.raises(PlauditError, match=f"{key} only applies to hub datasets"):
        list(numbered_records(str(tmp_path / "rows.jsonl"), **{key: value}))


@pytest.mark.parametrize("while_reading", [False, True])
def test_running_out_of_memory_is_not_blamed_on_the_dataset(
    monkeypatch: pytest.MonkeyPatch, while_reading: bool
) -> None:
    def load_dataset(*_: Any, **__: Any) -> Any:
        if not while_reading:
            raise MemoryError
        return failing()

    def failing() -> Iterator[dict[str, str]]:
        yield {"text": "one"}
        raise MemoryError

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(MemoryError):
        list(numbered_records("somebody/rows"))
