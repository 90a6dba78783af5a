"""A cache of token ids on disk, shared by all stages and runs.

Files are named by a hash of their inputs, so they never become stale. They may be deleted at any time.
"""

import hashlib
import os
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from plaudit.permissions import follow_umask

LEAST_CHARACTERS = 1_000_000  # about a second of tokenizing; smaller datasets are not cached
FOLDER = ".tokens"


class CachingTokenizer:
    """A transformers tokenizer that caches the token ids of long lists of texts; everything else is delegated."""

    def __init__(self, tokenizer: Any, folder: Path) -> None:
        self._tokenizer, self._folder = tokenizer, folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)

    def __call__(self, texts: str | Sequence[str], **options: Any) -> Any:
        """Return the tokenizer's output; only ``input_ids`` if it comes from the cache."""
        backend = getattr(self._tokenizer, "backend_tokenizer", None)
        if isinstance(texts, str) or backend is None or sum(map(len, texts)) < LEAST_CHARACTERS:
            return self._tokenizer(texts, **options)
        path = self._folder / f"{_key(backend.to_str(), texts, options)}.safetensors"
        if path.exists():
            return {"input_ids": _read(path)}
        answer = self._tokenizer(texts, **options)
        _write(path, answer["input_ids"])
        return answer


def _key(tokenizer: str, texts: Sequence[str], options: dict[str, Any]) -> str:
    digest = hashlib.sha256()
    # Each part is preceded by its length, so that different lists of texts have different hashes.
    for part in (version("tokenizers"), version("transformers"), tokenizer, repr(sorted(options.items())), *texts):
        content = part.encode("utf-8", "surrogatepass")
        digest.update(len(content).to_bytes(8, "little") + content)
    return digest.hexdigest()[:40]


def _read(path: Path) -> list[list[int]]:
    from safetensors.torch import load_file

    stored = load_file(path)
    ids, ends = stored["ids"].tolist(), stored["lengths"].cumsum(0).tolist()
    return [ids[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def _write(path: Path, all_ids: Sequence[Sequence[int]]) -> None:
    """Write the file atomically; several processes may write it at the same time."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}")
    ids = torch.tensor([token for ids in all_ids for token in ids], dtype=torch.int32)
    save_file({"ids": ids, "lengths": torch.tensor([len(ids) for ids in all_ids])}, part)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    follow_umask(part)
    part.replace(path)
