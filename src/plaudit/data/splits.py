"""Holds out and repeats rows. Both depend on the content of rows, not on their order.

Rows are identified by keys, which are 16-byte hashes, so that a million rows need no million Python objects.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from plaudit.data.rows import Row
from plaudit.data.selection import Indices
from plaudit.data.templates import human_assistant_text
from plaudit.seeding import derived_seed

_SEED_RANGE = 2**63
_FIRST = 10_000

Keys = NDArray[np.uint8]
"""Keys [N, 16] of N rows; equal keys mean equal texts."""
Mask = NDArray[np.bool_]


def prompt_key(row: Row) -> str:
    """Return the text that identifies a row's prompt; for plain text, the text itself."""
    prompt = row.responses[0] if row.prompt is None else row.prompt
    return (prompt if isinstance(prompt, str) else human_assistant_text(prompt)).strip()


def row_content(row: Row) -> str:
    """Return the content of a row as text; rows that differ only in their origin have equal content."""
    return repr([value for name, value in vars(row).items() if name != "origin" and value is not None])


def key_of(text: str | bytes) -> bytes:
    """Return the key of a text."""
    content = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return hashlib.blake2b(content, digest_size=16).digest()


def keys_of(texts: Iterable[str | bytes]) -> Keys:
    """Return the keys of texts."""
    return as_keys(map(key_of, texts))


def as_keys(keys: Iterable[bytes]) -> Keys:
    """Return keys as an array."""
    return np.frombuffer(b"".join(keys), np.uint8).reshape(-1, 16)


def _different(keys: Keys) -> int:
    return int(groups_of(keys).max()) + 1


def groups_of(keys: Keys) -> Indices:
    """Return a number from 0 for each key, the same for equal keys, [N]."""
    halves = np.ascontiguousarray(keys).view(np.uint64)
    order = np.lexsort((halves[:, 1], halves[:, 0]))
    ordered = halves[order]
    groups = np.zeros(len(keys), np.int64)
    groups[order[1:]] = np.cumsum(np.any(ordered[1:] != ordered[:-1], axis=1))
    return groups


class Split(NamedTuple):
    """Which rows are held out, [N], and a note for log and report if it was not simply a fraction of the prompts."""

    held_out: Mask
    note: str | None = None


def held_out_draws(rows: Iterable[Row], seed: int) -> Indices:
    """Return a number from 0 to 2 ** 63 for each row, [N], which depends only on prompt and seed.

    Every source and every stage draws the same numbers, so they hold out the same prompts: those with small numbers.
    """
    return draws_of(map(prompt_key, rows), seed)


def draws_of(prompts: Iterable[str], seed: int) -> Indices:
    """Return ``held_out_draws`` of rows by their ``prompt_key``, [N]."""
    return np.fromiter((derived_seed(seed, "held out", prompt) for prompt in prompts), np.int64)


def split_rows(rows: Sequence[Row], prompts: Keys, contents: Keys, draws: Indices, fraction: float, seed: int) -> Split:
    """Hold out a fraction of the prompts, those with the smallest draws.

    If there are too few prompts for that, hold out a fraction of the different rows, and if these are too few as well,
    of all rows. With too few rows, none may be held out. Rows are chosen by hash, so their order has no effect.

    Args:
        rows: all rows [N]; they are read only if rows are held out instead of prompts.
        prompts, contents: keys of the rows' prompts and contents.
        draws: see ``held_out_draws``.
        fraction: what part is held out.
        seed: the run's seed.
    """
    held_out = draws < fraction * _SEED_RANGE
    if not 0 < fraction < 1 or not len(rows):
        return Split(held_out)
    mixed = held_out.any() and not held_out.all()
    if mixed and fraction * _different(prompts[:_FIRST]) >= 1:  # the usual case, without a look at all rows
        return Split(held_out)
    by_prompt = groups_of(prompts)
    different, what = int(by_prompt.max()) + 1, "prompts" if rows[0].prompt is not None else "texts"
    if fraction * different >= 1:
        return Split(held_out if mixed else _smallest(by_prompt, draws, fraction))
    if different == len(rows) or fraction * len(rows) < 1:
        note = f"nothing is held out: {different} different {what} are too few for held_out_fraction={fraction:g}"
        return Split(held_out, None if held_out.any() else note)
    by_content = groups_of(contents)
    copies = len(rows) - (int(by_content.max()) + 1)
    enough = fraction * (len(rows) - copies) >= 1
    hashes = _content_hashes(rows, None if enough else earlier(by_content), (seed, "held out"))
    held_out = _smallest(by_content if enough else np.arange(len(rows)), hashes, fraction)
    shared = int(np.isin(by_prompt[held_out], by_prompt[~held_out]).sum())
    return Split(
        held_out,
        f"the {len(rows)} rows have only {different} different {what}, so rows are held out instead of {what}: "
        f"{held_out.sum()}, of which {shared} have {what} that are also trained on; duplicates of earlier rows: "
        f"{copies}",
    )


def _smallest(groups: Indices, hashes: Indices, fraction: float) -> Mask:
    """Hold out a fraction of the groups of rows, at least one and not all: those with the smallest hashes."""
    _, first = np.unique(groups, return_index=True)
    number = min(max(1, round(fraction * len(first))), len(first) - 1)
    chosen = groups[first[np.argsort(hashes[first], kind="stable")[:number]]]
    return np.isin(groups, chosen)


def earlier(groups: Indices) -> Indices:
    """Return for each row how many earlier ones are in its group, [N]."""
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]]) if len(groups) else order
    before = np.empty(len(groups), np.int64)
    before[order] = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    return before


def _content_hashes(rows: Iterable[Row], numbers: Indices | None, key: tuple[int | str, ...]) -> Indices:
    """Return the derived seeds of rows by their content and, if given, their numbers, [N]."""
    contents = map(row_content, rows)
    if numbers is None:
        return np.fromiter((derived_seed(*key, content) for content in contents), np.int64)
    pairs = zip(contents, map(int, numbers), strict=True)
    return np.fromiter((derived_seed(*key, content, number) for content, number in pairs), np.int64)


def repeated(rows: Sequence[Row], contents: Keys, weight: float, seed: int) -> Indices:
    """Return the indices of rows with every one floor(weight) times, and round(remainder * rows) one more time.

    A hash of the content and the seed, not the order of the rows, selects the additional rows. ``contents`` are the
    keys of the rows' contents.
    """
    everything = np.arange(len(rows), dtype=np.int64)
    whole = int(weight)
    extra = round((weight - whole) * len(rows))
    if not extra:
        return np.tile(everything, whole)
    hashes = _content_hashes(rows, earlier(groups_of(contents)), (seed, "weight"))
    chosen = np.sort(np.argsort(hashes, kind="stable")[:extra])
    return np.concatenate([np.tile(everything, whole), chosen])
