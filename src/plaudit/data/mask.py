"""One row as a model sees it: its tokens, which of them are learned, and where it ends."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from plaudit.data.chat_templates import end_of_turn_ids
from plaudit.data.tokenized_row import TokenizedRow


@dataclass(frozen=True)
class MaskedToken:
    """A token of a row. ``part``: "prompt" or the response's number from 1, as text."""

    part: str
    number: int
    id: int
    text: str
    learned: bool


def masked_tokens(row: TokenizedRow[Any], tokenizer: Any) -> Iterator[MaskedToken]:
    """Yield the tokens of a prompt and then those of each response; texts are shown as in Python, without quotes."""
    tree = row.tree
    parts = [("prompt", tree.prompt, (False,) * len(tree.prompt))]
    parts += [(f"response {n + 1}", ids, tree.flags(n)) for n, ids in enumerate(tree.responses)]
    for part, ids, flags in parts:
        for number, (token, learned) in enumerate(zip(ids, flags, strict=True), start=1):
            yield MaskedToken(part, number, token, repr(tokenizer.decode([token]))[1:-1], learned)


def ending(row: TokenizedRow[Any], number: int, tokenizer: Any) -> str:
    """Return in words how a response ends, counted from 0."""
    ends = {tokenizer.eos_token_id, *end_of_turn_ids(tokenizer)}
    response = row.tree.responses[number]
    places = [place for place, token in enumerate(response) if token in ends]
    if not places:
        return f"response {number + 1} has no end token: it was truncated"
    after = len(response) - places[-1] - 1
    name = tokenizer.convert_ids_to_tokens(response[places[-1]])
    return f"response {number + 1} ends with {name}" + (f" and {after} more tokens of the template" if after else "")
