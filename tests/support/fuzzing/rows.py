"""Records of hostile texts. Every text contains the number of its row, so that each can be told from all others."""

from random import Random

PIECES = (
    "the sea",
    "a, b; c | d",
    'she said "no"',
    '"',
    '""',
    "it's",
    "line\nbreak",
    "windows\r\nbreak",
    "tab\there",
    "back\\slash",
    "{'a': 1}",
    '{"a": [1, 2]}',
    "[x]",
    "nan",
    "None of these",
    "inf",
    "1e999",
    "ä ö ü",
    "日本語、テキスト",
    "😀",
    "\u2028",
    "\x0b",
    "\ufeff",
    "=1+1",
    "null",
    "²",
    ",",
    " ",
    "x" * 300,
)
ONE_LINE = tuple(piece for piece in PIECES if "\n" not in piece)


def text(random: Random, number: int, pieces: tuple[str, ...] = PIECES) -> str:
    """Return a random text that begins with its row."""
    chosen = random.choices(pieces, k=random.randrange(5))
    return " ".join((f"row{number}", *chosen)) + random.choice(("", ".", '"', "\\"))


def records(random: Random, pieces: tuple[str, ...] = PIECES, columns: int = 0) -> list[dict[str, str]]:
    """Return 1 to 20 records of 2 to 4 columns; all have the same columns."""
    names = ("prompt", "response", "topic", "source")[: columns or random.randint(2, 4)]
    return [{name: text(random, number, pieces) for name in names} for number in range(random.randint(1, 20))]
