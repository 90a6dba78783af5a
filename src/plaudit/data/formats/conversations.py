"""Dialogues: OpenAI's and TRL's ``messages``, ShareGPT's ``conversations``, UltraChat, and preferences on them."""

from collections.abc import Iterator, Mapping

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    checked_prompt,
    first_of,
    has_value,
    ranking,
    text_of,
)
from plaudit.data.formats.dialogues import dialogue_of, is_dialogue, not_learned, with_messages
from plaudit.data.formats.labeled import DIALOGUES
from plaudit.data.formats.prompts import AROUND, around, joined
from plaudit.data.formats.responses import response_row
from plaudit.data.formats.sides import check_repeated_prompt, judged_text
from plaudit.data.formats.values import structured
from plaudit.data.rows import LabeledRow, Message, Origin, PromptRow, RankingRow, ResponseRow, Row

_SIDES = ("chosen", "rejected")


def _turns(record: Record) -> tuple[Message, ...]:
    column = first_of(record, DIALOGUES) or "messages"
    return joined(around(record), dialogue_of(record.get(column), column))


def _messages(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    turns = _turns(record)
    check_repeated_prompt(record, "prompt", turns)
    yield from _rows(turns, origin, kind)


_LISTS = ("conversations", "data")


def _ultrachat(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """A list of texts, the user's and the assistant's in turn (Ding et al. 2023; Zhou et al. 2023)."""
    column = first_of(record, _LISTS) or "data"
    texts = structured(record[column])
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) for text in texts):
        raise BadRowError(f"{column} is not a list of texts")
    turns = (("user", "assistant")[index % 2] for index in range(len(texts)))
    messages = [{"role": role, "content": text_of(text, "turn")} for role, text in zip(turns, texts, strict=True)]
    yield from _rows(dialogue_of(messages, column), origin, kind)


def _lists_turns(record: Record) -> bool:
    """Return whether a column holds pairs of texts; ``data`` without an id may be something else."""
    column = first_of(record, _LISTS) or "data"
    texts = structured(record.get(column))
    pairs = isinstance(texts, list) and bool(texts) and len(texts) % 2 == 0
    sure = column != "data" or has_value(record.get("id"))
    return pairs and sure and all(isinstance(text, str) for text in texts)


def _rows(turns: tuple[Message, ...], origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    """The last turn of the assistant that is to be learned is the response; earlier ones are learned as well."""
    if kind is PromptRow and turns[-1].role != "assistant":
        yield PromptRow(not_learned(checked_prompt(turns)), origin)
        return
    last = max((index for index, turn in enumerate(turns) if turn.role == "assistant"), default=None)
    if last is None:
        raise BadRowError("no assistant turn")
    learned = [index for index, turn in enumerate(turns) if turn.learned]
    end = last if kind is PromptRow else max(learned, default=None)
    if end is None:
        yield Unused("dialogue without a turn to learn")
        return
    if not turns[end].text.strip():
        raise BadRowError("empty response")
    prompt = checked_prompt(turns[:end])
    for turn in turns[end + 1 :]:
        yield Unused(f"{turn.role}'s turn after the last answer to learn")
    if kind is PromptRow:
        yield PromptRow(not_learned(prompt), origin)
    else:
        yield response_row(prompt, turns[end], origin)


def _preference_messages(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    prompt = not_learned(checked_prompt(_turns(record)))
    if prompt[-1].role == "assistant":
        raise BadRowError("the dialogue before the responses ends with the assistant")
    yield ranking(prompt, [_answer(record, side) for side in _SIDES], (0, 1), origin)


def _answer(record: Record, side: str) -> str:
    value = with_messages(record[side])
    if isinstance(value, str):
        return text_of(value, "response")
    turns = dialogue_of([value] if isinstance(value, Mapping) else value, side)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise BadRowError(f"{side} is not one turn of the assistant")
    return text_of(judged_text(turns[0]), "response")


def _has_single_answers(record: Record) -> bool:
    """Return whether the sides do not repeat the dialogue, as they do in ``implicit_preference``."""
    values = [with_messages(record[side]) for side in _SIDES]
    return not any(is_dialogue(value) and len(value) > 1 for value in values)


FORMATS = (
    Format(
        "messages",
        (DIALOGUES,),
        (ResponseRow, PromptRow),
        _messages,
        also_reads=("prompt", *AROUND),
        matches=lambda record: not _lists_turns(record),
        dialogue=True,
    ),
    Format(
        "ultrachat",
        (_LISTS,),
        (ResponseRow, PromptRow),
        _ultrachat,
        matches=_lists_turns,
        recognized_by="`conversations`, or `data` and `id`: a list of an even number of texts, the user's first",
        dialogue=True,
    ),
    Format(
        "preference_messages",
        (DIALOGUES, *_SIDES),
        (RankingRow, LabeledRow, ResponseRow, PromptRow),
        _preference_messages,
        also_reads=AROUND,
        matches=_has_single_answers,
        judgement=_SIDES,
        ties="none",
        dialogue=True,
        labels="the column's name",
    ),
)
