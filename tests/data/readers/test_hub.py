"""Datasets of the hub: names, settings, and rows that are counted."""

import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from numbered_records import numbered_records
from plaudit.data.readers import Malformed
from plaudit.errors import PlauditError

ROWS = [{"prompt": "ä", "n": 1}, {"prompt": "two\nlines", "n": 2}]


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
