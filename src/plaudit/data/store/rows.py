"""The rows of a source on disk: read from its file once, then by number, without holding them in memory."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from plaudit.config.schema import SourceConfig
from plaudit.data.contradictions import judgement_keys
from plaudit.data.conversion import Reject
from plaudit.data.readers.sources import file_names
from plaudit.data.rows import Origin, PromptRow, Row
from plaudit.data.rows.base import PromptKind, prompt_kind
from plaudit.data.selection import Lazy
from plaudit.data.sources import SourceCounts, SourceReading
from plaudit.data.splits import as_keys, draws_of, held_out_draws, key_of, keys_of, prompt_key
from plaudit.data.store.building import Chunk, Store, built
from plaudit.data.store.codec import decoded, encoded
from plaudit.data.store.columns import BYTES, HASHES, KEYS, LENGTHS, NUMBERS, Array, Ragged
from plaudit.errors import PlauditError

R = TypeVar("R", bound=Row)

ROWS_PER_CHUNK = 1024
BYTES_PER_CHUNK = 1 << 21
"""A chunk ends with the row that reaches this length, so that long documents need no more memory than others."""
COLUMNS = {
    "rows": BYTES,
    "row_lengths": LENGTHS,
    "files": LENGTHS,
    "lines": NUMBERS,
    "prompts": KEYS,
    "contents": KEYS,
    "draws": NUMBERS,
    "judgements": HASHES,
    "rejects": BYTES,
}


class StoredRows(Lazy[R]):
    """The rows of one source.

    ``prompts`` and ``contents`` [N, 16] are keys: equal for equal prompts, and for rows with equal content.
    ``prompt_kinds`` counts the rows by the kind of their prompt. ``judgements`` are the ``judgement_keys`` of all rows.
    """

    def __init__(self, store: Store, source: str, kind: type[R]) -> None:
        self.folder, self.source, self.kind = store.folder, source, kind
        self._names = file_names(source)
        self.counts = SourceCounts(**{**store.facts["counts"], "source": source})
        self.prompt_kinds: Counter[PromptKind] = Counter(store.facts["prompt_kinds"])
        self.prompts = store.columns["prompts"].all()
        self.contents = store.columns["contents"].all()
        self.judgements = store.columns["judgements"].all()
        self._rows = Ragged(store.columns["rows"], store.columns["row_lengths"])
        self._files, self._lines = store.columns["files"].all(), store.columns["lines"].all()
        self._draws, self._seed = store.columns["draws"], store.facts["seed"]
        self._rejects = store.columns["rejects"]

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, index: int) -> R:
        """Return a row."""
        origin = Origin(self._names[int(self._files[index])], int(self._lines[index]))
        return decoded(self._rows[index].tobytes(), self.kind, origin)

    @property
    def rejects(self) -> Iterator[Reject]:
        """The bad records."""
        for line in self._rejects.all().tobytes().splitlines():
            reject = json.loads(line)
            origin = Origin(self._names[reject["file"]], reject["line"])
            yield Reject(origin, reject["reason"], reject["excerpt"])

    def end_of_part(self, first: int) -> int:
        """Return where a part of the rows that begins at ``first`` ends, so that it has no more than a chunk holds."""
        sizes = np.cumsum(self._rows.lengths[first : first + ROWS_PER_CHUNK], dtype=np.int64)
        return first + min(int(np.searchsorted(sizes, BYTES_PER_CHUNK)) + 1, len(sizes))

    def draws(self, seed: int) -> Array:
        """Return what ``held_out_draws`` returns for these rows, [N].

        Those for the seed with which the rows were stored are stored with them, others when they are first needed.
        """
        if seed == self._seed:
            return self._draws.all()

        def chunks(done: int, facts: Mapping[str, Any]) -> Iterator[Chunk]:
            for start in range(done * ROWS_PER_CHUNK, len(self), ROWS_PER_CHUNK):
                yield Chunk({"draws": held_out_draws(self[start : start + ROWS_PER_CHUNK], seed)}, {})

        return built(self.folder / f"held-out-{seed}", {"draws": NUMBERS}, chunks).columns["draws"].all()


def stored_rows(source: SourceConfig, kind: type[R], folder: Path, seed: int) -> StoredRows[R]:
    """Return the rows of a source from the store in a folder, which is built first if it is not there."""

    def chunks(done: int, facts: Mapping[str, Any]) -> Iterator[Chunk]:
        # A resumed build reads the source again, because the counts go on from its beginning.
        return islice(_chunks(SourceReading(source, kind), facts.get("seed", seed)), done, None)

    return StoredRows(built(folder, COLUMNS, chunks), source.path, kind)


def _chunks(reading: SourceReading[R], seed: int) -> Iterator[Chunk]:
    """Yield the rows in chunks, and at last a chunk with the counts of the whole source, which may have no rows."""
    kinds: Counter[PromptKind] = Counter()
    rows: list[R] = []
    texts: list[bytes] = []
    size = 0
    for row in reading:
        rows.append(row)
        texts.append(_encoded(row))
        size += len(texts[-1])
        if len(rows) == ROWS_PER_CHUNK or size >= BYTES_PER_CHUNK:
            yield _chunk(rows, texts, reading, kinds, seed)
            rows, texts, size = [], [], 0
    yield _chunk(rows, texts, reading, kinds, seed)


def _encoded(row: Row) -> bytes:
    """Encode a row, and check that it can be read back."""
    text = encoded(row)
    again: Row = decoded(text, type(row), row.origin)
    if isinstance(row, PromptRow) and isinstance(again, PromptRow):
        again = replace(again, fields=row.fields)  # dates and bytes among them become text
    if again != row:
        raise PlauditError(
            f"{row.origin.source} line {row.origin.line}: a {row.kind} row is not read back from JSON as it was; "
            f"give the fields of {type(row).__name__} types such as str, int and tuple[str, ...]"
        )
    return text


def _chunk(
    rows: Sequence[R], texts: Sequence[bytes], reading: SourceReading[R], kinds: Counter[PromptKind], seed: int
) -> Chunk:
    kinds.update(map(prompt_kind, rows))
    prompts = [prompt_key(row) for row in rows]
    prompt_keys = list(map(key_of, prompts))
    rejects = "".join(json.dumps(_noted(reject, reading.files)) + "\n" for reject in reading.new_rejects())
    values: dict[str, Array] = {
        "rows": np.frombuffer(b"".join(texts), np.uint8),
        "row_lengths": np.array([len(text) for text in texts], np.uint32),
        "files": np.array([reading.files[row.origin.source] for row in rows], np.uint32),
        "lines": np.array([row.origin.line for row in rows], np.int64),
        "prompts": as_keys(prompt_keys),
        "contents": keys_of(texts),
        "draws": draws_of(prompts, seed),
        "judgements": np.fromiter(chain.from_iterable(map(judgement_keys, rows, prompt_keys)), np.uint64),
        "rejects": np.frombuffer(rejects.encode(), np.uint8),
    }
    facts = {"counts": asdict(reading.counts()), "prompt_kinds": dict(kinds), "seed": seed}
    return Chunk(values, facts, reading.fraction)


def _noted(reject: Reject, files: Mapping[str, int]) -> dict[str, Any]:
    origin = reject.origin
    return {"file": files[origin.source], "line": origin.line, "reason": reject.reason, "excerpt": reject.excerpt}
