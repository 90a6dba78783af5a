"""Sources of several files: folders and patterns."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.loading import load_rows
from plaudit.data.readers import Malformed, Meter, read_records
from plaudit.data.readers.shards import files_of
from plaudit.data.readers.sources import check_source
from plaudit.data.rows import PromptRow, RankingRow
from plaudit.data.sources import read_source
from plaudit.data.store.cache import DataCache
from plaudit.errors import PlauditError
from plaudit.runs.metadata import data_checksums


def lines(*prompts: str) -> str:
    return "".join(json.dumps({"prompt": prompt, "chosen": "a", "rejected": "b"}) + "\n" for prompt in prompts)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Make a folder with three shards, written in another order than that of their names."""
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "part-2.jsonl.gz").write_bytes(gzip.compress(lines("e", "f").encode()))
    (folder / "part-0.jsonl").write_text(lines("a", "b"))
    (folder / "part-1.ndjson").write_text(lines("c") + "broken\n" + lines("d"))
    for other in (".hidden.jsonl", "_SUCCESS", "README.md", "dataset_info.json", "LICENSE"):
        (folder / other).write_text("not data")
    return folder


@pytest.mark.parametrize("pattern", ["", "part-*", "*", "part-?.*", "../**/part-*"])
def test_the_files_are_read_in_the_order_of_their_names(shards: Path, pattern: str) -> None:
    path = str(shards / pattern)
    read = list(read_records(path))
    found = [
        (Path(origin.source).name, origin.line, "bad" if isinstance(record, Malformed) else record["prompt"])
        for origin, record in read
    ]
    assert found == [
        ("part-0.jsonl", 1, "a"),
        ("part-0.jsonl", 2, "b"),
        ("part-1.ndjson", 1, "c"),
        ("part-1.ndjson", 2, "bad"),
        ("part-1.ndjson", 3, "d"),
        ("part-2.jsonl.gz", 1, "e"),
        ("part-2.jsonl.gz", 2, "f"),
    ]
    check_source(path)


def test_rows_rejects_and_counts_name_their_file(shards: Path, tmp_path: Path) -> None:
    source = SourceConfig(path=str(shards))
    read = read_source(source, RankingRow)
    assert (read.counts.records, read.counts.rows, read.counts.bad_records) == (7, 6, 1)
    assert [reject.origin.source for reject in read.rejects] == [str(shards / "part-1.ndjson")]
    assert read.counts.verdicts[2].startswith(f"{shards / 'part-1.ndjson'} line 1: response 1 of 2")
    # The store gives the same rows with the same origins, and its rejects too.
    stored = DataCache(tmp_path / "cache").rows(source, RankingRow, 0)
    assert list(stored) == read.rows
    assert list(stored.rejects) == read.rejects
    with pytest.raises(PlauditError, match=r"part-1\.ndjson line 2: malformed JSON; 1 of 7 records are bad"):
        load_rows(DataConfig(sources=[source]), RankingRow, None, 0, DataCache(tmp_path / "cache"))


def test_an_added_removed_or_changed_shard_is_noticed(shards: Path, tmp_path: Path) -> None:
    source = SourceConfig(path=str(shards / "*"))
    cache = DataCache(tmp_path / "cache")
    section = DataConfig(sources=[source])

    def seen() -> tuple[Any, ...]:
        return tuple(data_checksums(section)[source.path].items()), cache.rows(source, PromptRow, 0).folder

    first = seen()
    assert seen() == first
    assert dict(first[0])["files"] == 3
    (shards / "part-3.jsonl").write_text(lines("g"))
    second = seen()
    assert dict(second[0])["files"] == 4
    (shards / "part-3.jsonl").write_text(lines("h"))
    os.utime(shards / "part-3.jsonl", ns=(1, 1))
    third = seen()
    (shards / "part-3.jsonl").unlink()
    assert seen() == first
    assert len({first[0], second[0], third[0]}) == len({first[1], second[1], third[1]}) == 3


def test_one_file_keeps_its_own_checksum_and_files_with_another_ending_are_other_data(tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.txt"):
        (tmp_path / name).write_text(lines("a"))
    assert len({DataCache(tmp_path / "c").rows(SourceConfig(path=str(file)), PromptRow, 0).folder
                for file in tmp_path.glob("rows.*")}) == 2  # fmt: skip


def test_the_meter_counts_the_bytes_on_disk(shards: Path) -> None:
    meter = Meter()
    total = sum((shards / name).stat().st_size for name in ("part-0.jsonl", "part-1.ndjson", "part-2.jsonl.gz"))
    fractions = [meter.fraction for _ in read_records(str(shards), meter=meter)]
    assert (meter.read, meter.total) == (total, total)
    assert fractions == sorted(fractions, key=lambda fraction: fraction or 0)
    assert fractions[0] == (shards / "part-0.jsonl").stat().st_size / total


@pytest.mark.parametrize(
    "files, path, said",
    [
        ([], "data/*.jsonl", "data/*.jsonl: no file matches this pattern; correct it"),
        ([], "data", "data: no data files are in this folder"),
        (["README.md"], "data", "data: no data files are in this folder"),
        (["a.jsonl", "b.parquet"], "data", "data/b.parquet: another kind of file than data/a.jsonl; name each kind"),
        (["a.jsonl", "b.json"], "data/*", "data/b.json: another kind of file than data/a.jsonl"),
        (["a.jsonl", "b.pdf"], "data", "data/b.pdf: unknown kind of file"),
        (["a.jsonl", "in/b.jsonl"], "data", "data/in: this is a folder in a folder of data; name the files"),
        (["a.jsonl", "b.jsonl"], "data", "data/b.jsonl: the file is empty"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, files: list[str], path: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for name in files:
        file = Path("data") / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("" if name == "b.jsonl" else lines("a"))
    with pytest.raises(PlauditError) as caught:
        list(read_records(path))
    assert said in str(caught.value)


def test_a_file_whose_name_looks_like_a_pattern_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "rows[1].jsonl"
    file.write_text(lines("a"))
    assert files_of(str(file)) == [file]
    assert data_checksums(DataConfig(sources=[SourceConfig(path=str(file))]))[str(file)]["bytes"] == len(lines("a"))


@pytest.mark.parametrize("key, value", [("split", "test"), ("subset", "en"), ("files", "x")])
def test_keys_of_hub_datasets_are_refused_for_a_folder(shards: Path, key: str, value: Any) -> None:
    with pytest.raises(PlauditError, match=f"{key} only applies to hub datasets"):
        list(read_records(str(shards), **{key: value}))
