"""The class of row formats, and the checks that they share."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.data.rows import Message, Origin, Prompt, RankingRow, Row

Kind = type[Row]
Record = Mapping[str, Any]

ROLES = ("system", "user", "assistant")


class BadRowError(Exception):
    """A record that yields no row. The message is the reason; bad rows are counted by reason."""


@dataclass(frozen=True)
class Unused:
    """A part of a valid record that yields no row. It is counted by reason and is not an error."""

    reason: str


Convert = Callable[[Record, Origin, Kind], Iterator[Row | Unused]]
Group = Callable[[Iterable[tuple[int, Record]]], Iterable[tuple[int, Record]]]


@dataclass(frozen=True)
class Format:
    """A row format: the columns by which it is recognised, and how a record becomes rows.

    ``kinds`` lists the kinds of row it can give, its native kind first. ``convert`` yields rows of the wanted kind or
    of a richer one, and raises BadRowError; ``also_reads`` names the optional columns. ``matches`` checks the values
    if the columns are not enough. A ``fallback`` is recognised only if no other format fits. ``group`` merges several
    records into one.
    """

    name: str
    columns: tuple[str, ...]
    kinds: tuple[Kind, ...]
    convert: Convert
    also_reads: tuple[str, ...] = ()
    matches: Callable[[Record], bool] = lambda record: True
    fallback: bool = False
    group: Group | None = None

    @property
    def kind_names(self) -> tuple[str, ...]:
        """Return the names of the kinds."""
        return tuple(kind.kind for kind in self.kinds)

    def fits(self, record: Record) -> bool:
        """Return whether a record has this format's columns and values."""
        return all(record.get(column) is not None for column in self.columns) and self.matches(record)


def text_in(record: Record, column: str, name: str | None = None) -> str:
    """Return the non-empty text of a column. Raises BadRowError, in which the column is called ``name``."""
    name = name or column
    value = record.get(column)
    if value is None:
        raise BadRowError(f"{name} is missing")
    if not isinstance(value, str):
        raise BadRowError(f"{name} is not a string")
    if not value.strip():
        raise BadRowError(f"empty {name}")
    return value


def messages_in(record: Record, column: str) -> tuple[Message, ...]:
    """Return the turns in a column that holds a list of {"role", "content"}; raises BadRowError."""
    value = record.get(column)
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise BadRowError(f"{column} is not a list of messages")
    return tuple(_message(turn, column) for turn in value)


def _message(turn: object, column: str) -> Message:
    if not isinstance(turn, Mapping) or not isinstance(turn.get("content"), str):
        raise BadRowError(f"{column} holds an entry that is not a message with role and content")
    if turn.get("role") not in ROLES:
        raise BadRowError(f"{column} holds a role other than {', '.join(ROLES)}")
    return Message(turn["role"], turn["content"])


def prompt_in(record: Record, column: str = "prompt") -> Prompt:
    """Return a prompt: text, or turns of which the last is not the assistant's; raises BadRowError."""
    if not isinstance(record.get(column), list | tuple):
        return text_in(record, column)
    return checked_prompt(messages_in(record, column))


def checked_prompt(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the turns of a prompt if the last one needs an answer; raises BadRowError."""
    if not any(message.content.strip() for message in prompt):
        raise BadRowError("empty prompt")
    return prompt


def split_dialogue(dialogue: tuple[Message, ...]) -> tuple[tuple[Message, ...], str]:
    """Split a dialogue into the turns before the final assistant turn, and that turn's text; raises BadRowError."""
    *prompt, final = dialogue
    if final.role != "assistant":
        raise BadRowError("no final assistant turn")
    if not final.content.strip():
        raise BadRowError("empty response")
    return checked_prompt(tuple(prompt)), final.content


def ranking(prompt: Prompt, responses: Sequence[str], ranks: Sequence[float], origin: Origin) -> RankingRow:
    """Return a ranking; lower ranks are better, gaps between ranks are closed. Raises BadRowError."""
    if len(responses) != len(ranks):
        raise BadRowError("number of responses and ranks differ")
    if len(responses) < 2:
        raise BadRowError("fewer than two responses")
    if not all(response.strip() for response in responses):
        raise BadRowError("empty response")
    if len(set(responses)) == 1:
        raise BadRowError("identical responses")
    if len(set(ranks)) == 1:
        raise BadRowError("all responses are tied")
    levels = sorted(set(ranks))
    return RankingRow(prompt, tuple(responses), tuple(levels.index(rank) for rank in ranks), origin)


def integer(value: object, name: str) -> int:
    """Return an integer, which may be stored as text, as in csv files. Raises BadRowError."""
    if isinstance(value, str) and value.strip().lstrip("-").isdigit():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadRowError(f"{name} is not a whole number")
