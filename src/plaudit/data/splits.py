"""Holds out and repeats rows. Both depend on the content of rows, not on their order."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from plaudit.data.rows import Row
from plaudit.data.templates import human_assistant_text
from plaudit.seeding import derived_seed

_SEED_RANGE = 2**63

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


def repeated(rows: Sequence[R], weight: float, seed: int) -> list[R]:
    """Return every row floor(weight) times, and round(remainder * rows) of them one more time.

    A hash of the content and the seed, not the order of the rows, selects the additional rows.
    """
    whole = int(weight)
    extra = round((weight - whole) * len(rows))
    seen: Counter[str] = Counter()
    keys = []
    for row in rows:
        content = row_content(row)
        keys.append(derived_seed(seed, "weight", content, seen[content]))
        seen[content] += 1
    chosen = sorted(range(len(rows)), key=keys.__getitem__)[:extra]
    return [*rows] * whole + [rows[index] for index in sorted(chosen)]
