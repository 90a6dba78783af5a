"""TRL's formats: pairs with or without a separate prompt, labelled or plain completions, and messages.

See the page "Dataset formats and types" of TRL's documentation.
"""

from collections.abc import Iterator

from plaudit.data.formats.base import (
    BadRowError,
    Format,
    Kind,
    Record,
    Unused,
    checked_prompt,
    messages_in,
    prompt_in,
    ranking,
    split_dialogue,
    text_in,
)
from plaudit.data.formats.hh_rlhf import is_dialogue_text
from plaudit.data.rows import LabelledRow, Message, Origin, Prompt, PromptRow, RankingRow, ResponseRow, Row

_SIDES = ("chosen", "rejected")
_LABELS = {"true": True, "1": True, "false": False, "0": False}


def _preference(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    sides = [_with_prompt(record, side) for side in _SIDES]
    yield _pair(sides, origin)


def _implicit_preference(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    if all(isinstance(record.get(side), str) for side in _SIDES):
        yield _pair(_split_common_prefix(record), origin)
    else:
        yield _pair([split_dialogue(messages_in(record, side)) for side in _SIDES], origin)


def _prompt_completion(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    prompt, response = _with_prompt(record, "completion")
    yield ResponseRow(prompt, response, origin)


def _unpaired_preference(record: Record, origin: Origin, kind: Kind) -> Iterator[Row | Unused]:
    prompt, response = _with_prompt(record, "completion")
    desirable = _label(record["label"])
    if desirable is None:
        raise BadRowError("label is not true or false")
    if kind is not ResponseRow:
        yield LabelledRow(prompt, (response,), (desirable,), origin)
    elif desirable:
        yield ResponseRow(prompt, response, origin)
    else:
        yield Unused("undesirable response")


def _label(value: object) -> bool | None:
    """Return a label as bool; csv files store labels as text, and some datasets as 0 and 1."""
    if isinstance(value, bool):
        return value
    return _LABELS.get(str(value).strip().lower())


def _messages(record: Record, origin: Origin, kind: Kind) -> Iterator[Row]:
    messages = messages_in(record, "messages")
    if kind is PromptRow and messages[-1].role != "assistant":
        yield PromptRow(checked_prompt(messages), origin)
    else:
        prompt, response = split_dialogue(messages)
        yield ResponseRow(prompt, response, origin)


def _pair(sides: list[tuple[Prompt, str]], origin: Origin) -> Row:
    (prompt, chosen), (other_prompt, rejected) = sides
    if prompt != other_prompt:
        raise BadRowError("mismatched prompts")
    return ranking(prompt, (chosen, rejected), (0, 1), origin)


def _with_prompt(record: Record, column: str) -> tuple[Prompt, str]:
    """Return prompt and response of one side; a side that is a whole dialogue includes its prompt."""
    if isinstance(record.get(column), str):
        return prompt_in(record), text_in(record, column, "response")
    turns = messages_in(record, column)
    if turns[0].role != "assistant":
        return split_dialogue(turns)
    prompt = prompt_in(record)
    before = (Message("user", prompt),) if isinstance(prompt, str) else prompt
    return split_dialogue(before + turns)


def _split_common_prefix(record: Record) -> list[tuple[Prompt, str]]:
    """Split two texts after their common prefix. Words are never split, and white space goes to the response."""
    chosen, rejected = (text_in(record, side) for side in _SIDES)
    if chosen == rejected:
        raise BadRowError("identical responses")
    shorter = min(len(chosen), len(rejected))
    end = next((index for index in range(shorter) if chosen[index] != rejected[index]), shorter)
    while end and any(text[end - 1].isalnum() and text[end : end + 1].isalnum() for text in (chosen, rejected)):
        end -= 1
    prompt = chosen[:end].rstrip()
    if not prompt:
        raise BadRowError("mismatched prompts")
    return [(prompt, text[len(prompt) :]) for text in (chosen, rejected)]


def _is_not_dialogue_text(record: Record) -> bool:
    return not all(is_dialogue_text(record[side]) for side in _SIDES)


FORMATS = (
    Format("preference", ("prompt", *_SIDES), (RankingRow, LabelledRow, ResponseRow, PromptRow), _preference),
    Format(
        "implicit_preference",
        _SIDES,
        (RankingRow, LabelledRow, ResponseRow, PromptRow),
        _implicit_preference,
        matches=_is_not_dialogue_text,
    ),
    Format("prompt_completion", ("prompt", "completion"), (ResponseRow, PromptRow), _prompt_completion),
    Format(
        "unpaired_preference",
        ("prompt", "completion", "label"),
        (LabelledRow, ResponseRow, PromptRow),
        _unpaired_preference,
        matches=lambda record: _label(record["label"]) is not None,
    ),
    Format("messages", ("messages",), (ResponseRow, PromptRow), _messages),
)
