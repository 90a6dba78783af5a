"""Which rows are held out and how often rows are repeated: decided by the rows' content, not by their order."""

from collections import Counter
from collections.abc import Sequence
from typing import TypeVar

from plaudit.data.rows import Row
from plaudit.data.templates import human_assistant_text
from plaudit.seeding import derived_seed

_SEED_RANGE = 2**63

R = TypeVar("R", bound=Row)


def prompt_key(row: Row) -> str:
    """Return the text by which a row's prompt is compared with others; for plain text, the text itself."""
    prompt = row.responses[0] if row.prompt is None else row.prompt
    return (prompt if isinstance(prompt, str) else human_assistant_text(prompt)).strip()


def row_content(row: Row) -> str:
    """Return all that a row says, as text; rows that differ only in where they come from are equal by it."""
    return repr([value for name, value in vars(row).items() if name != "origin"])


def is_held_out(row: Row, share: float, seed: int) -> bool:
    """Say whether a row belongs to the held-out part, of which about ``share`` of the prompts are members.

    The prompt and the seed alone decide, so the same prompt is on the same side in every source and every stage.
    """
    return derived_seed(seed, "held out", prompt_key(row)) < share * _SEED_RANGE


def repeated(rows: Sequence[R], weight: float, seed: int) -> list[R]:
    """Return every row floor(weight) times, and round(remainder * rows) of them once more.

    Which rows come once more depends on a hash of their content and the seed, not on their order.
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
