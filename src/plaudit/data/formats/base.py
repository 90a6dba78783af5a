"""The class of row formats, and the checks that they share."""

import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from plaudit.data.rows import Message, Origin, Prompt, PromptRow, RankingRow, Row

Kind = type[Row]
Record = Mapping[str, Any]
Column = str | tuple[str, ...]
"""The name of a column, or alternative names of which a record's first one with a value is read."""

# Texts that csv files and data frames hold in place of a missing value.
_MISSING = {"nan", "NaN", "None", "null", "NULL", "<NA>"}
_LONGEST_MISSING = max(map(len, _MISSING))
_INVISIBLE = string.whitespace + "\u00a0\u200b\u200c\u200d\u2060\ufeff"
# The beginning of a list of messages; such a list is read before, unless its text cannot be parsed.
_MESSAGES = re.compile(r"""\s*(array\()?\[\s*\{\s*['"](role|content|from|value)['"]\s*:""")


class BadRowError(Exception):
    """A record that yields no row. The message is the reason; bad rows are counted by reason."""


@dataclass(frozen=True)
class Unused:
    """A part of a valid record that yields no row. It is counted by reason and is not an error."""

    reason: str


Convert = Callable[[Record, Origin, Kind], Iterator[Row | Unused]]
Group = Callable[[Iterable[tuple[Origin, Record]]], Iterable[tuple[Origin, Record]]]
Settle = Callable[["Format", Sequence[Record]], "Format"]


@dataclass(frozen=True)
class Format:
    """A row format: the columns by which it is recognized, and how a record becomes rows.

    Args:
        name: the name, as in ``format: NAME``.
        columns: the columns that every record must have.
        kinds: the kinds of row that it can give, its native kind first.
        convert: yields the rows of a record, of the wanted kind or of a richer one, and raises BadRowError.
        also_reads: columns that are read if a record has them.
        ignores: columns that are knowingly not read, because they repeat or only describe what is read.
        varying: returns the further columns that a record's conversion reads, where their names vary.
        matches: checks the values, if the columns are not enough.
        fallback: whether it is recognized only if no other format fits.
        on_request: whether it is read only if a source names it.
        group: merges several records into one.
        settle: returns the format with a ``convert`` for the coding that a file's first records use.
        judgement: the columns that say which response is good or better.
        answers: the columns with the response, which a prompt carries along for reward functions.
        unordered: whether the order of the responses says nothing about which one is better, so that the better one
            should be the first about as often as not.
        recognized_by: words for the documentation if ``columns`` does not say it all.
        ties: words for the documentation on equally good responses.
        dialogue: whether prompts may have several turns.
        labels: words for the documentation on the values of ``judgement``.
        derives_prompt: whether the common beginning of the responses is taken as the prompt, so that a text in
            another column may be the real one.
    """

    name: str
    columns: tuple[Column, ...]
    kinds: tuple[Kind, ...]
    convert: Convert
    also_reads: tuple[Column, ...] = ()
    ignores: tuple[str, ...] = ()
    varying: Callable[[Record], Iterable[str]] | None = None
    matches: Callable[[Record], bool] = lambda record: True
    fallback: bool = False
    on_request: bool = False
    group: Group | None = None
    settle: Settle | None = None
    judgement: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    unordered: bool = False
    recognized_by: str = ""
    ties: str = ""
    dialogue: bool = False
    labels: str = ""
    derives_prompt: bool = False

    @property
    def kind_names(self) -> tuple[str, ...]:
        """Return the names of the kinds."""
        return tuple(kind.kind for kind in self.kinds)

    def fits(self, record: Record) -> bool:
        """Return whether a record has this format's columns and values."""
        return self.missing(record) is None and self.matches(record)

    def is_complete(self, record: Record) -> bool:
        """Return whether a record has a value in all required columns."""
        names = [first_of(record, column) for column in self.columns]
        return all(name is not None and has_value(record[name]) for name in names)

    def missing(self, record: Record) -> str | None:
        """Return the first required column that is not in a record, by its usual name; None if all are there."""
        for column in self.columns:
            if isinstance(column, str):
                if record.get(column) is None:
                    return column
            elif first_of(record, column) is None:
                return column[0]
        return None

    def others(self, record: Record) -> set[str]:
        """Return the columns of a record that this format does not read."""
        others = record.keys() - self._always_read
        if others and self._alternatives:
            others -= {name for column in self._alternatives if (name := first_of(record, column)) is not None}
        if others and self.varying is not None:
            others -= set(self.varying(record))
        return others

    def unread(self, record: Record) -> set[str]:
        """Return the columns with a value that this format neither reads nor knowingly ignores."""
        return {name for name in self.others(record) - self._ignored if has_value(record[name])}

    @cached_property
    def _always_read(self) -> frozenset[str]:
        return frozenset(column for column in (*self.columns, *self.also_reads) if isinstance(column, str))

    @cached_property
    def _ignored(self) -> frozenset[str]:
        return frozenset(self.ignores)

    @cached_property
    def _alternatives(self) -> tuple[tuple[str, ...], ...]:
        return tuple(column for column in (*self.columns, *self.also_reads) if not isinstance(column, str))


def has_value(value: object) -> bool:
    """Return whether a cell holds something: None, empty text and empty lists are no values."""
    return value is not None and value != "" and value != [] and value != {}


def first_of(record: Record, column: Column) -> str | None:
    """Return the first of alternative names that has a value in a record, or else that is not None."""
    names = (column,) if isinstance(column, str) else column
    present = [name for name in names if record.get(name) is not None]
    return next((name for name in present if has_value(record[name])), present[0] if present else None)


def text_in(record: Record, column: str, name: str | None = None) -> str:
    """Return the non-empty text of a column. Raises BadRowError, in which the column is called ``name``."""
    return text_of(record.get(column), name or column)


def text_of(value: object, name: str) -> str:
    """Return a value if it is a non-empty text. Raises BadRowError, in which it is called ``name``."""
    if value is None:
        raise BadRowError(f"{name} is missing")
    if not isinstance(value, str):
        raise BadRowError(f"{name} is not a string")
    if not value.strip() or not value.strip(_INVISIBLE):
        raise BadRowError(f"empty {name}")
    if len(value) <= _LONGEST_MISSING and value in _MISSING:
        raise BadRowError(f"{name} is the text {value}, which stands for a missing value")
    if "[" in value[:20] and _MESSAGES.match(value):
        raise BadRowError(f"{name} is the text of a list of messages that is neither JSON nor Python")
    return value


def checked_prompt(prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return the turns of a prompt if one of them has text; raises BadRowError."""
    if not any(message.content.strip() for message in prompt):
        raise BadRowError("empty prompt")
    return prompt


def split_dialogue(dialogue: tuple[Message, ...]) -> tuple[tuple[Message, ...], str]:
    """Split a dialogue into the turns before the final assistant turn, and that turn's text; raises BadRowError."""
    *prompt, final = dialogue
    if final.role != "assistant":
        raise BadRowError("no final assistant turn")
    if not final.text.strip():
        raise BadRowError("empty response")
    return checked_prompt(tuple(prompt)), final.text


def ranking(prompt: Prompt, responses: Sequence[str], ranks: Sequence[float], origin: Origin) -> RankingRow:
    """Return a ranking; lower ranks are better, gaps between ranks are closed. Raises BadRowError."""
    if len(responses) != len(ranks):
        raise BadRowError("number of responses and ranks differ")
    if len(responses) < 2:
        raise BadRowError("fewer than two responses")
    texts = {response.strip() for response in responses}
    if "" in texts:
        raise BadRowError("empty response")
    if len(texts) == 1:
        raise BadRowError("identical responses")
    if len(set(ranks)) == 1:
        raise BadRowError("all responses are tied")
    levels = sorted(set(ranks))
    return RankingRow(prompt, tuple(responses), tuple(map(levels.index, ranks)), origin)


def ranking_or_tie(
    prompt: Prompt, responses: Sequence[str], ranks: Sequence[float], origin: Origin, kind: Kind
) -> Iterator[Row | Unused]:
    """Yield a ranking. A tie of all responses is a valid judgement, but only its prompt can be used."""
    tied = len(ranks) > 1 and len(set(ranks)) == 1
    if not tied:
        yield ranking(prompt, responses, ranks, origin)
        return
    # The texts are checked as in a ranking: the ranks here only keep it from being a tie.
    row = ranking(prompt, responses, range(len(ranks)), origin)
    if kind is PromptRow:
        yield PromptRow(row.prompt, origin)
    else:
        yield Unused("tie: no response is better")
