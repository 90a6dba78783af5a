"""The forms of a response in a file: text, a message, a list of messages, or a whole dialogue with its prompt."""

from collections.abc import Mapping
from typing import Any

from plaudit.data.formats.base import BadRowError, Column, Record, has_value, text_of
from plaudit.data.formats.dialogues import dialogue_of, is_dialogue, not_learned, split_answer, with_messages
from plaudit.data.formats.prompts import around, joined, prompt_in
from plaudit.data.rows import Message, Prompt


def learned_side(record: Record, prompts: Column, column: str) -> tuple[Prompt, Message | str]:
    """Return prompt and response to learn; the assistant's earlier turns in the response's column are learned as well.

    Raises BadRowError.
    """
    return _side(record, prompts, record.get(column), column, learn=True)


def judged_side(record: Record, prompts: Column, value: Any, name: str) -> tuple[Prompt, str]:
    """Return prompt and text of a response that is judged, called ``name`` in a BadRowError."""
    prompt, response = _side(record, prompts, value, name, learn=False)
    if isinstance(response, Message):
        return prompt, judged_text(response)
    return prompt, response


def judged_dialogue(record: Record, value: Any, name: str) -> tuple[tuple[Message, ...], str]:
    """Return prompt and text of a judged response that is the last turn of a dialogue; raises BadRowError."""
    prompt, final = split_answer(joined(around(record), dialogue_of(value, name)))
    return not_learned(prompt), judged_text(final)


def judged_text(final: Message) -> str:
    """Return the text of a judged response; raises BadRowError if it calls functions."""
    if final.tool_calls:
        raise BadRowError("a judged response calls functions, which only SFT can learn")
    return final.content


def as_turns(prompt: Prompt) -> tuple[Message, ...]:
    """Return a prompt as turns."""
    return (Message("user", prompt),) if isinstance(prompt, str) else prompt


def check_copy(record: Record, column: str, dialogue: tuple[Message, ...]) -> None:
    """Raise BadRowError if a column that usually repeats a dialogue holds another one."""
    if has_value(record.get(column)):
        contents = [message.content for message in dialogue_of(record[column], column)]
        if contents != [message.content for message in dialogue][-len(contents) :]:
            raise BadRowError(f"{column} is another dialogue than the one that was read")


def check_repeated_prompt(record: Record, column: str, dialogue: tuple[Message, ...]) -> None:
    """Raise BadRowError if a prompt's column is not in the dialogue that should begin with it."""
    value = record.get(column)
    if is_dialogue(value):
        beginning = [message.content for message in dialogue_of(value, column)]
        if beginning != [message.content for message in dialogue][: len(beginning)]:
            raise BadRowError("mismatched prompts")
    elif isinstance(value, str) and value.strip():
        wanted = "".join(value.split())
        if not any(wanted in "".join(message.content.split()) for message in dialogue if message.role != "assistant"):
            raise BadRowError("mismatched prompts")


def _side(record: Record, prompts: Column, value: Any, name: str, learn: bool) -> tuple[Prompt, Message | str]:
    value = with_messages(value)
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if not isinstance(value, list | tuple):
        return prompt_in(record, prompts, learn), text_of(value, "response")
    turns = dialogue_of(value, name)
    if turns[0].role == "assistant":
        turns = as_turns(prompt_in(record, prompts, learn)) + turns
    else:
        for column in (prompts,) if isinstance(prompts, str) else prompts:
            check_repeated_prompt(record, column, turns)
        turns = joined(around(record), turns)
    prompt, final = split_answer(turns)
    return (prompt if learn else not_learned(prompt)), final
