"""A full disk: a store that will not fit is refused at its beginning, and one that does not fit is continued later."""

import errno
import gzip
import json
import os
import random
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.rows import ResponseRow
from plaudit.data.store import rows as row_store
from plaudit.data.store.cache import DataCache
from plaudit.errors import PlauditError
from tiny_tokenizers import byte_level


def written(path: Path, number: int) -> SourceConfig:
    draw = random.Random(0)
    rows = ({"prompt": f"p{n}", "response": f"{draw.getrandbits(2000):x}"} for n in range(number))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return SourceConfig(path=str(path))


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != "lock"}


def disk(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    usage = SimpleNamespace(free=free)
    monkeypatch.setattr("plaudit.data.store.building.shutil.disk_usage", lambda folder: usage)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_store_that_will_not_fit_on_the_disk_is_refused_with_its_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compressed: bool
) -> None:
    # Small enough buffers that the first chunk is read before the end of the file.
    monkeypatch.setattr("plaudit.data.readers.opening._BUFFER", 1 << 12)
    monkeypatch.setattr("plaudit.data.readers.encoding._CHUNK", 1 << 12)
    monkeypatch.setattr(row_store, "ROWS_PER_CHUNK", 256)
    source = written(tmp_path / "rows.jsonl", 4000)
    if compressed:
        (tmp_path / "rows.jsonl").write_bytes(gzip.compress((tmp_path / "rows.jsonl").read_bytes(), 1))
    size = sum(map(len, contents(DataCache(tmp_path / "whole").rows(source, ResponseRow, 0).folder).values()))
    cache = DataCache(tmp_path / "cache")
    disk(monkeypatch, size // 2)
    with pytest.raises(PlauditError) as caught:
        cache.rows(source, ResponseRow, 0)
    needed, done, left = (float(number) for number in re.findall(r"([\d.e-]+) GB", str(caught.value)))
    assert needed * 1e9 == pytest.approx(size, rel=0.1)
    assert done * 1e9 < size / 10, "it is refused at the beginning"
    assert left * 1e9 == pytest.approx(size // 2, rel=0.01)
    assert "\n" not in str(caught.value)
    assert "choose another disk with `output`" in str(caught.value)
    # A limited part fits, and with more space the build goes on.
    assert len(cache.rows(source.model_copy(update={"limit": 1000}), ResponseRow, 0)) == 1000
    disk(monkeypatch, size)
    assert len(cache.rows(source, ResponseRow, 0)) == 4000
    disk(monkeypatch, size // 100)
    with pytest.raises(PlauditError, match="are needed"):
        cache.trees(cache.rows(source, ResponseRow, 0), byte_level(), DataConfig(sources=[source]), False)


def test_a_disk_that_becomes_full_is_one_line_and_the_build_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_store, "ROWS_PER_CHUNK", 8)
    source = written(tmp_path / "rows.jsonl", 60)
    whole = DataCache(tmp_path / "whole").rows(source, ResponseRow, 0).folder
    synchronize, calls = os.fsync, 0

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synchronize(descriptor)

    cache = DataCache(tmp_path / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(PlauditError, match=r"^.*rows-\w+: No space left on device; free some space, .*$"):
            cache.rows(source, ResponseRow, 0)
    assert (calls, len(cache.entries())) == (30, 1)
    assert contents(cache.rows(source, ResponseRow, 0).folder) == contents(whole)
