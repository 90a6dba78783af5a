"""Readers by ending: the configuration knows the same endings, and others can be added."""

from collections.abc import Iterator
from pathlib import Path

from numbered_records import numbered_records
from plaudit.config.schema.data import FILE_ENDINGS
from plaudit.data.readers import READERS, DataFile, Numbered
from plaudit.data.readers.opening import COMPRESSIONS
from plaudit.data.readers.registry import ending_of


def test_the_configuration_knows_the_same_endings() -> None:
    assert set(FILE_ENDINGS) == {kind + packed for kind in READERS for packed in ("", *COMPRESSIONS)}


def test_endings() -> None:
    assert ending_of(Path("a.b/ROWS.JsonL.GZ")) == ".jsonl"
    assert ending_of(Path("rows.json")) == ".json"
    assert ending_of(Path("rows.csv.zip")) is None
    assert ending_of(Path("jsonl")) is None


def test_a_reader_of_ones_own(tmp_path: Path) -> None:
    def read(file: DataFile) -> Iterator[Numbered]:
        with file.open_utf8() as lines:
            for number, line in enumerate(lines, start=1):
                yield number, {"words": line.decode().split()}

    READERS.register(".words", read)
    try:
        path = tmp_path / "rows.words"
        path.write_text("a b\nc\n", encoding="utf-16")
        assert list(numbered_records(str(path))) == [(1, {"words": ["a", "b"]}), (2, {"words": ["c"]})]
    finally:
        READERS.unregister(".words")
