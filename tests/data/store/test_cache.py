"""What the cache holds is listed with its size, and cleared unless a process is building it."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from command_line import run_command
from plaudit.config.schema import SourceConfig
from plaudit.data.rows import ResponseRow
from plaudit.data.store.cache import FOLDER, DataCache


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


def test_what_a_process_builds_is_not_cleared(cache: DataCache) -> None:
    [entry] = cache.entries()
    with FileLock(entry.folder / "lock"):
        assert cache.clear() == 0
    assert cache.entries() == [entry]
    (entry.folder / "journal").write_text("cut off")
    assert not cache.entries()[0].complete
