"""Prompts from all columns that belong to them: system message, tools, history, instruction and input."""

from plaudit.data.formats.base import BadRowError, Column, Record, checked_prompt, first_of, has_value, text_in, text_of
from plaudit.data.formats.dialogues import dialogue_of, history_in, not_learned, tools_in, with_messages
from plaudit.data.rows import Message, Prompt

SYSTEM = ("system", "system_prompt")
TOOLS = ("tools", "functions")
HISTORY = "history"
INPUT = "input"
AROUND: tuple[Column, ...] = (SYSTEM, TOOLS, HISTORY)
"""The columns that belong to any prompt, as earlier turns of it."""

PROMPTS = ("prompt", "instruction", "question", "query", INPUT)
"""The columns of a prompt. In all but ``prompt``, which may be any text to continue, the text is a user's turn."""


def prompt_in(record: Record, columns: Column = "prompt", learn: bool = False) -> Prompt:
    """Return the prompt in the first of ``columns`` with all that belongs to it.

    ``learn``: whether SFT also learns the assistant's turns in a history.

    Text in ``prompt`` stays text unless other turns come before it. An instruction, question or query is a turn of the
    user; ``input`` follows an instruction after a blank line. Raises BadRowError.
    """
    column = first_of(record, columns)
    if column is None:
        raise BadRowError(f"{columns if isinstance(columns, str) else columns[0]} is missing")
    before = around(record) if learn else not_learned(around(record))
    value = with_messages(record[column])
    if isinstance(value, list | tuple) and len(value) == 1 and isinstance(value[0], str):
        value = value[0]
    if isinstance(value, list | tuple):
        return checked_prompt(joined(before, not_learned(dialogue_of(value, column))))
    text = text_of(value, column)
    if column == "prompt" and not before:
        return text
    if column != "prompt":
        text = _with_input(text.strip(), record) if column == "instruction" else text.strip()
    return joined(before, (Message("user", text),))


def input_read(record: Record) -> tuple[str, ...]:
    """Return whether a record's prompt reads ``input``, which follows an instruction, as names of columns."""
    return (INPUT,) if first_of(record, PROMPTS) == "instruction" else ()


def around(record: Record) -> tuple[Message, ...]:
    """Return tools, system message and history as turns; raises BadRowError."""
    messages: tuple[Message, ...] = ()
    tools, system = first_of(record, TOOLS), first_of(record, SYSTEM)
    if tools is not None and has_value(record[tools]):
        messages += tools_in(record, tools)
    if system is not None and has_value(record[system]):
        messages += (Message("system", text_in(record, system)),)
    if has_value(record.get(HISTORY)):
        messages += history_in(record, HISTORY)
    return messages


def joined(before: tuple[Message, ...], dialogue: tuple[Message, ...]) -> tuple[Message, ...]:
    """Return a dialogue after the turns from other columns; a system message given twice must be the same one."""
    systems = {message.content.strip() for message in (*before, *dialogue) if message.role == "system"}
    if before and len(systems) > 1 and any(message.role == "system" for message in before):
        raise BadRowError("two different system messages")
    if any(message.role == "system" for message in before):
        dialogue = tuple(message for message in dialogue if message.role != "system")
    return before + dialogue


def _with_input(instruction: str, record: Record) -> str:
    given = record.get(INPUT) or ""
    if not isinstance(given, str):
        raise BadRowError(f"{INPUT} is not a string")
    return f"{instruction}\n\n{given.strip()}" if given.strip() else instruction
