"""Holds out and repeats rows. Both depend on the content of rows, not on their order."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from plaudit.data.rows import Row
from plaudit.data.templates import human_assistant_text
from plaudit.seeding import derived_seed

_SEED_RANGE = 2**63

Key = tuple[str | int, ...]

R = TypeVar("R", bound=Row)


def prompt_key(row: Row) -> str:
    """Return the text that identifies a row's prompt; for plain text, the text itself."""
    prompt = row.responses[0] if row.prompt is None else row.prompt
    return (prompt if isinstance(prompt, str) else human_assistant_text(prompt)).strip()


def row_content(row: Row) -> str:
    """Return the content of a row as text; rows that differ only in their origin have equal content."""
    return repr([value for name, value in vars(row).items() if name != "origin" and value is not None])


def is_held_out(row: Row, fraction: float, seed: int) -> bool:
    """Return whether a row is held out; about this fraction of all prompts is.

    The result depends only on prompt and seed, so every source and every stage holds out the same prompts.
    """
    return derived_seed(seed, "held out", prompt_key(row)) < fraction * _SEED_RANGE


class Split(NamedTuple):
    """Whether each row is held out, and a note for log and report if it was not simply a fraction of the prompts."""

    held_out: list[bool]
    note: str | None = None


def split_rows(rows: Sequence[Row], fraction: float, seed: int) -> Split:
    """Hold out a fraction of the prompts, as ``is_held_out`` does.

    If there are too few prompts for that, hold out a fraction of the different rows, and if these are too few as well,
    of all rows. With too few rows, none may be held out. Rows are chosen by hash, so their order has no effect.
    """
    prompts = [prompt_key(row) for row in rows]
    held_out = [is_held_out(row, fraction, seed) for row in rows]
    different, what = len(set(prompts)), "prompts" if rows and rows[0].prompt is not None else "texts"
    if not 0 < fraction < 1 or not rows:
        return Split(held_out)
    if fraction * different >= 1:
        return Split(
            held_out if len(set(held_out)) == 2 else _smallest([(prompt,) for prompt in prompts], fraction, seed)
        )
    if different == len(rows) or fraction * len(rows) < 1:
        note = f"nothing is held out: {different} different {what} are too few for held_out_fraction={fraction:g}"
        return Split(held_out, None if any(held_out) else note)
    contents = [row_content(row) for row in rows]
    copies = len(rows) - len(set(contents))
    enough = fraction * (len(rows) - copies) >= 1
    held_out = _smallest([(content,) for content in contents] if enough else _numbered(contents), fraction, seed)
    trained = {prompt for prompt, out in zip(prompts, held_out, strict=True) if not out}
    shared = sum(out and prompt in trained for prompt, out in zip(prompts, held_out, strict=True))
    return Split(
        held_out,
        f"the {len(rows)} rows have only {different} different {what}, so rows are held out instead of {what}: "
        f"{sum(held_out)}, of which {shared} have {what} that are also trained on; duplicates of earlier rows: "
        f"{copies}",
    )


def _smallest(keys: Sequence[Key], fraction: float, seed: int) -> list[bool]:
    """Hold out a fraction of the different keys, at least one and not all: those with the smallest hashes."""
    different = sorted(set(keys), key=lambda key: derived_seed(seed, "held out", *key))
    number = min(max(1, round(fraction * len(different))), len(different) - 1)
    chosen = set(different[:number])
    return [key in chosen for key in keys]


def _numbered(keys: Sequence[str]) -> list[Key]:
    """Make keys different by how often each occurred before."""
    seen: Counter[str] = Counter()
    numbered: list[Key] = []
    for key in keys:
        numbered.append((key, seen[key]))
        seen[key] += 1
    return numbered


def repeated(rows: Sequence[R], weight: float, seed: int) -> list[R]:
    """Return every row floor(weight) times, and round(remainder * rows) of them one more time.

    A hash of the content and the seed, not the order of the rows, selects the additional rows.
    """
    whole = int(weight)
    extra = round((weight - whole) * len(rows))
    keys = [derived_seed(seed, "weight", *key) for key in _numbered([row_content(row) for row in rows])]
    chosen = sorted(range(len(rows)), key=keys.__getitem__)[:extra]
    return [*rows] * whole + [rows[index] for index in sorted(chosen)]
