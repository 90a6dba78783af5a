"""The cache of data: a folder of stores, each named after everything that its content depends on.

A store therefore never becomes stale. All stages, runs and processes with the same output folder share it.
"""

import hashlib
import inspect
import json
import logging
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from filelock import FileLock, Timeout

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.formats.registry import FORMATS
from plaudit.data.readers.hub import Dataset, commit, fingerprint
from plaudit.data.readers.registry import READERS, ending_of
from plaudit.data.readers.shards import files_of
from plaudit.data.readers.sources import is_local
from plaudit.data.rows import Row
from plaudit.data.selection import Indices
from plaudit.data.store.building import Chunk, built, is_complete
from plaudit.data.store.columns import NUMBERS
from plaudit.data.store.rows import StoredRows, stored_rows
from plaudit.data.store.trees import StoredTrees, stored_trees
from plaudit.errors import PlauditError
from plaudit.files import json_text, read_json, sha256, state_of, write_atomically

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Row)

Split = tuple[Indices, Indices, Mapping[str, Any]]
"""Indices of training rows and of held-out rows, and facts about them."""

FOLDER = ".cache"
_CHECKSUMS = "checksums"
_STORE = re.compile(r"(rows|tokens|split)-[0-9a-f]{32}")
_RENDERING = ("prompt_template", "conversation", "special_tokens")


class CacheEntry(NamedTuple):
    """A store in the cache: whether it is complete, its size in bytes, and when it was last written (Unix time)."""

    folder: Path
    complete: bool
    size: int
    written: float


class DataCache:
    """The stores in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def of(cls, output: str) -> "DataCache":
        """Return the cache in a folder of runs."""
        return cls(Path(output) / FOLDER)

    def rows(self, source: SourceConfig, kind: type[R], seed: int) -> StoredRows[R]:
        """Return the rows of a source. Raises PlauditError if the source cannot be read.

        ``seed``: the draws for this seed are stored with rows that are read for the first time.
        """
        source = self._pinned(source)
        settings = source.model_dump(exclude={"path", "weight"})
        key = _key(self._content(source), settings, kind.kind, _code(kind))
        return stored_rows(source, kind, self.folder / f"rows-{key}", seed)

    def trees(self, rows: StoredRows[R], tokenizer: Any, config: DataConfig, all_turns: bool) -> StoredTrees[R]:
        """Return the tokenized rows of a source.

        ``all_turns``: whether the assistant's turns before the response are learned where rows allow it.
        """
        rendering = {name: getattr(config, name) for name in _RENDERING}
        key = _key(rows.folder.name, _identity(tokenizer), rendering, all_turns)
        return stored_trees(rows, tokenizer, config, all_turns, self.folder / f"tokens-{key}")

    def split(self, key: Sequence[Any], compute: Callable[[], Split]) -> Split:
        """Return a split of rows into training and held-out ones, by their indices; it is computed once for each key.

        ``key`` names the stores of the rows and everything else that the split depends on.
        """

        def chunks(done: int, facts: Mapping[str, Any]) -> Iterator[Chunk]:
            train, held_out, found = compute()
            yield Chunk({"train": train, "held_out": held_out}, found)

        store = built(self.folder / f"split-{_key(*key)}", {"train": NUMBERS, "held_out": NUMBERS}, chunks)
        return store.columns["train"].all(), store.columns["held_out"].all(), store.facts

    def entries(self) -> list[CacheEntry]:
        """Return what the cache holds, the newest first."""
        stores = (folder for folder in self.folder.glob("*-*") if _STORE.fullmatch(folder.name))
        folders = [folder for folder in stores if folder.is_dir() and not folder.is_symlink()]
        found = [CacheEntry(folder, is_complete(folder), _size(folder), _newest(folder)) for folder in folders]
        return sorted(found, key=lambda entry: (-entry.written, entry.folder.name))

    def clear(self) -> int:
        """Delete everything that no process is building, and return how many bytes that were.

        A run that reads a store keeps it until it ends.
        """
        deleted = 0
        for entry in self.entries():
            with suppress(Timeout), FileLock(entry.folder / "lock", blocking=False):
                shutil.rmtree(entry.folder)
                deleted += entry.size
        shutil.rmtree(self.folder / _CHECKSUMS, ignore_errors=True)
        return deleted

    def _content(self, source: SourceConfig) -> str:
        """Return what changes with the content of a source: its kind of files and their checksums, in order."""
        if not is_local(source.path):
            hub = (source.path, source.subset, source.split, source.files, source.revision, source.streaming)
            return _key(*hub) if source.streaming else fingerprint(Dataset(*hub))
        files = files_of(source.path)
        return _key(ending_of(files[0]), [self._checksum(file.resolve()) for file in files])

    def _pinned(self, source: SourceConfig) -> SourceConfig:
        """Return a streamed source with the commit that its revision was when it was first read."""
        if not source.streaming or is_local(source.path):
            return source
        noted = self.folder / _CHECKSUMS / f"{_key(source.path, source.revision)}.json"
        noted.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(noted.with_suffix(".lock")):
            if not noted.exists():
                write_atomically(noted, json_text({"commit": commit(source.path, source.revision)}))
        pinned = str(read_json(noted, "delete it")["commit"])
        logger.info("%s: streaming its commit %s", source.path, pinned)
        return source.model_copy(update={"revision": pinned})

    def _checksum(self, path: Path) -> str:
        """Return the checksum of a file; one that has not changed since is not read again."""
        state = [str(path), *state_of(path)]
        noted = self.folder / _CHECKSUMS / f"{_key(str(path))}.json"
        noted.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(noted.with_suffix(".lock")):  # one process computes it, others wait
            known = _noted(noted)
            if known.get("state") != state:
                known = {"state": state, "sha256": sha256(path)}
                write_atomically(noted, json_text(known))
        return str(known["sha256"])


def _noted(path: Path) -> dict[str, Any]:
    """Return a note; nothing if there is none, or a damaged one, which is written again."""
    try:
        return read_json(path, "delete it") if path.exists() else {}
    except PlauditError:
        return {}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _newest(folder: Path) -> float:
    return max((file.stat().st_mtime for file in folder.rglob("*")), default=0.0)


def _key(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _identity(tokenizer: Any) -> list[Any]:
    """Return everything that a tokenizer's output depends on."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    content = backend.to_str() if backend is not None else repr(sorted(tokenizer.get_vocab().items()))
    settings = [type(tokenizer).__name__, tokenizer.chat_template, tokenizer.special_tokens_map]
    return [hashlib.sha256(content.encode()).hexdigest(), settings, version("tokenizers"), version("transformers")]


def _code(kind: type[Row]) -> str:
    """Return the checksum of the code that turns records into rows and trees: our own, and that of plugins."""
    digest = hashlib.sha256(_own_code().encode())
    parts: list[Any] = [kind, *(FORMATS[name].convert for name in FORMATS), *(READERS[name] for name in READERS)]
    modules = {inspect.getmodule(part) for part in parts}
    for module in sorted((module for module in modules if module is not None), key=lambda module: module.__name__):
        if not module.__name__.startswith("plaudit."):
            digest.update(inspect.getsource(module).encode())
    return digest.hexdigest()


@cache
def _own_code() -> str:
    digest = hashlib.sha256()
    data = Path(__file__).parents[1]
    for file in [*sorted(data.rglob("*.py")), data.parent / "seeding.py"]:
        digest.update(file.read_bytes())
    return digest.hexdigest()
