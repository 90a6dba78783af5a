"""What the cache holds is listed with its size, and cleared unless a process is building it."""

import json
import os
from pathlib import Path

import pytest
from filelock import FileLock

from command_line import run_command
from plaudit.config.schema import SourceConfig
from plaudit.data.rows import ResponseRow
from plaudit.data.store.cache import FOLDER, DataCache
from plaudit.errors import PlauditError


@pytest.fixture
def cache(tmp_path: Path) -> DataCache:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps({"prompt": f"p{n}", "response": "r"}) + "\n" for n in range(9)))
    cache = DataCache(tmp_path / "runs" / FOLDER)
    cache.rows(SourceConfig(path=str(file)), ResponseRow, 0)
    return cache


def test_stores_are_listed_and_cleared(
    cache: DataCache, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(*arguments: str) -> tuple[int, str, str]:
        return run_command(capsys, monkeypatch, "data", "cache", "--output", str(tmp_path / "runs"), *arguments)

    [entry] = cache.entries()
    assert entry.complete
    assert entry.size == sum(file.stat().st_size for file in entry.folder.iterdir())
    code, out, _ = command()
    assert code == 0
    assert str(entry.folder) in out
    assert "in 1 folders" in out
    assert command("--clear")[0] == 0
    assert cache.entries() == []
    assert cache.clear() == 0


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_keeps_its_size_and_time_is_read_again(cache: DataCache, tmp_path: Path, replace: bool) -> None:
    file, source = tmp_path / "rows.jsonl", SourceConfig(path=str(tmp_path / "rows.jsonl"))
    before = file.stat()
    lines = file.read_text().splitlines(keepends=True)
    changed = tmp_path / "other.jsonl" if replace else file
    changed.write_text("".join(reversed(lines)))
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
    changed.replace(file)
    assert file.stat().st_mtime_ns == before.st_mtime_ns
    assert [row.prompt for row in cache.rows(source, ResponseRow, 0)] == [f"p{n}" for n in range(8, -1, -1)]


def test_a_damaged_checksum_is_computed_again(cache: DataCache, tmp_path: Path) -> None:
    [noted] = (cache.folder / "checksums").glob("*.json")
    whole = noted.read_text()
    noted.write_text(whole[:10])
    assert len(cache.rows(SourceConfig(path=str(tmp_path / "rows.jsonl")), ResponseRow, 0)) == 9
    assert noted.read_text() == whole


def test_a_folder_is_not_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards/a.jsonl").write_text('{"prompt": "p", "response": "r"}\n')
    source = SourceConfig(path="shards", streaming=True)  # may be the name of a hub dataset
    with pytest.raises(PlauditError, match=r"^shards: this is on disk, but streaming only applies to hub datasets"):
        DataCache(tmp_path / "cache").rows(source, ResponseRow, 0)


def test_what_a_process_builds_is_not_cleared(cache: DataCache) -> None:
    [entry] = cache.entries()
    with FileLock(entry.folder / "lock"):
        assert cache.clear() == 0
    assert cache.entries() == [entry]
    (entry.folder / "journal").write_text("cut off")
    assert not cache.entries()[0].complete
