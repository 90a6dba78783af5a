"""Plain text, prompts, and film reviews (IMDB), whose first words become prompts."""

from collections.abc import Iterator
from itertools import islice
from re import finditer, search

from plaudit.data.formats.base import Format, Kind, Record, text_in
from plaudit.data.formats.prompts import AROUND, input_read, prompt_in
from plaudit.data.rows import Origin, PromptRow, Row, TextRow
from plaudit.seeding import derived_seed

ASKING = ("instruction", "question", "query")
# As in the usual GPT-2 sentiment task, the first 2 to 8 words of a review are the prompt.
_SHORTEST_OPENING, _LONGEST_OPENING = 2, 8


def _text(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    text = text_in(record, "text")
    if kind is TextRow:
        yield TextRow(text, origin)
    else:
        yield PromptRow(first_sentence(text), origin)


def _prompt(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield PromptRow(prompt_in(record), origin)


def _instruction(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    yield PromptRow(prompt_in(record, ASKING), origin)


def _imdb(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    text = text_in(record, "text")
    if kind is TextRow:
        yield TextRow(text, origin)
    else:
        yield PromptRow(opening(text), origin, {"label": record["label"]})


def first_sentence(text: str) -> str:
    """Return a text up to the first full stop, exclamation mark or question mark that ends a word."""
    text = text.strip()
    end = search(r"[.!?][\"')\u201d\u2019]*(?=\s|$)", text)
    return text[: end.end()] if end else text


def opening(text: str) -> str:
    """Return the first 2 to 8 words of a text; a hash of the text determines the number."""
    words = _SHORTEST_OPENING + derived_seed("opening", text) % (_LONGEST_OPENING - _SHORTEST_OPENING + 1)
    ends = [match.end() for match in islice(finditer(r"\S+", text), words)]
    return text[: ends[-1]]


FORMATS = (
    Format("text", ("text",), (TextRow, PromptRow), _text, fallback=True),
    Format("prompt", ("prompt",), (PromptRow,), _prompt, also_reads=AROUND, fallback=True, dialogue=True),
    Format(
        "instruction",
        (ASKING,),
        (PromptRow,),
        _instruction,
        also_reads=AROUND,
        varying=input_read,
        fallback=True,
        dialogue=True,
    ),
    Format("imdb", ("text", "label"), (TextRow, PromptRow), _imdb, on_request=True),
)
