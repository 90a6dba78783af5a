"""Dialogues in the spellings of public data: OpenAI's messages, ShareGPT's from/value, and question-answer pairs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from plaudit.data.formats.base import BadRowError, Record, checked_prompt, first_of
from plaudit.data.formats.values import label, shown, structured
from plaudit.data.rows import Message, ToolCall
from plaudit.data.rows.messages import TOOLS

ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "prompter": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "chatgpt": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "function_response": "tool",
    "function_call": "function_call",
    "tool_call": "function_call",
}
"""Roles in data files, and as they are read; ``function_call`` is a turn of the assistant that holds a call as JSON."""

_ROLE_KEYS, _CONTENT_KEYS = ("role", "from"), ("content", "value")
_LEARNED_KEYS = ("weight", "loss_weight", "train", "training", "train_on_turn", "loss")
_TEXT_PARTS = {"text", "input_text", "output_text"}
# Keys of a message that hold what cannot be read; other unknown keys, such as ids and times, say nothing to a model.
_UNREADABLE = (
    "image", "images", "audio", "audios", "video", "videos", "refusal", "reasoning_content", "reasoning", "thinking",
    "train_detail",
)  # fmt: skip
READ_JUDGEMENTS = (*_LEARNED_KEYS, *_UNREADABLE)
"""Keys of a message that may look like a judgement, but are read or make it bad."""
_QUESTIONS = ("input", "user", "human", "question", "prompt", "query", "instruction")
_ANSWERS = ("output", "assistant", "bot", "answer", "response", "gpt", "completion")


def dialogue_in(record: Record, column: str) -> tuple[Message, ...]:
    """Return the turns in a column that holds a list of messages, also as JSON text; raises BadRowError."""
    return dialogue_of(record.get(column), column)


def dialogue_of(value: object, name: str) -> tuple[Message, ...]:
    """Return the turns of a list of messages. Raises BadRowError, in which the list is called ``name``."""
    turns = structured(value)
    if isinstance(turns, Mapping):
        turns = _turned(turns)
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise BadRowError(f"{name} is not a list of messages")
    return tuple(message for turn in turns for message in _messages(turn, name))


def _turned(columns: Mapping[str, Any]) -> list[Any]:
    """Return the messages of which an object holds a list per key, as in files of the ``datasets`` library."""
    lists = list(columns.values())
    if not lists or not all(isinstance(each, list) and len(each) == len(lists[0]) for each in lists):
        return []
    return [dict(zip(columns, values, strict=True)) for values in zip(*lists, strict=True)]


def is_dialogue(value: object) -> bool:
    """Return whether a value is a list of objects, or text that holds a list of messages."""
    turns = with_messages(value)
    return isinstance(turns, list | tuple) and bool(turns) and all(isinstance(turn, Mapping) for turn in turns)


def with_messages(value: Any) -> Any:
    """Return the list of messages in a text, or its one message; any other value unchanged, also other JSON."""
    turns = structured(value) if isinstance(value, str) else value
    if turns is value:
        return value
    turns = [turns] if isinstance(turns, Mapping) else turns
    return turns if isinstance(turns, list) and bool(turns) and all(is_message(turn) for turn in turns) else value


def is_message(turn: object) -> bool:
    """Return whether a value is an object with a role and a content."""
    return (
        isinstance(turn, Mapping)
        and first_of(turn, _ROLE_KEYS) is not None
        and any(key in turn for key in _CONTENT_KEYS)
    )


def history_in(record: Record, column: str) -> tuple[Message, ...]:
    """Return earlier turns: messages, or pairs of a user's and the assistant's turn; raises BadRowError."""
    turns = structured(record.get(column))
    if not isinstance(turns, list | tuple):
        raise BadRowError(f"{column} is neither a list of pairs nor of messages")
    if turns and all(isinstance(turn, Mapping) for turn in turns):
        return dialogue_of(turns, column)
    messages = []
    for pair in turns:
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(text, str) for text in pair):
            raise BadRowError(f"{column} is neither a list of pairs nor of messages")
        messages += [Message("user", pair[0]), Message("assistant", pair[1], learned=True)]
    return tuple(messages)


def tools_in(record: Record, column: str) -> tuple[Message, ...]:
    """Return the functions that the assistant may call as a message, none for an empty list; raises BadRowError."""
    tools = structured(record.get(column))
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise BadRowError(f"{column} is not a list of functions as JSON")
    return (Message(TOOLS, json.dumps(tools, ensure_ascii=False)),) if tools else ()


def not_learned(dialogue: Sequence[Message]) -> tuple[Message, ...]:
    """Return turns that are context only."""
    return tuple(replace(message, learned=False) if message.learned else message for message in dialogue)


def split_answer(dialogue: tuple[Message, ...]) -> tuple[tuple[Message, ...], Message]:
    """Split a dialogue before its final turn, which must be the assistant's; raises BadRowError."""
    *prompt, final = dialogue
    if final.role != "assistant":
        raise BadRowError("no final assistant turn")
    if not final.text.strip():
        raise BadRowError("empty response")
    return checked_prompt(tuple(prompt)), final


def _messages(turn: object, name: str) -> Iterator[Message]:
    if not isinstance(turn, Mapping):
        raise BadRowError(f"{name} holds an entry that is not a message with role and content")
    role_key = first_of(turn, _ROLE_KEYS)
    content_key = first_of(turn, _CONTENT_KEYS) or next((key for key in _CONTENT_KEYS if key in turn), None)
    if role_key is None or content_key is None:
        yield from _pair(turn, name)
        return
    for key in _UNREADABLE:
        if turn.get(key):
            raise BadRowError(f"{name} holds a message with {key}, which is not read")
    spelled = turn[role_key]
    role = ROLES.get(spelled.lower()) if isinstance(spelled, str) else None
    if role is None:
        raise BadRowError(f"{name} holds an unknown role: {shown(spelled)}")
    learned = role in ("assistant", "function_call") and _is_learned(turn, name)
    if role == "function_call":
        content = _content(turn[content_key], name)
        yield Message("assistant", "", tool_calls=_calls(structured(content), name), learned=learned)
        return
    calls = _calls(turn.get("tool_calls") or turn.get("function_call") or [], name) if role == "assistant" else ()
    content = "" if turn[content_key] is None and calls else _content(turn[content_key], name)
    yield Message(role, content, _text_or_none(turn, "name"), calls, _text_or_none(turn, "tool_call_id"), learned)


def _pair(turn: Mapping[str, Any], name: str) -> Iterator[Message]:
    """Yield the two turns of a mapping such as {"input": …, "output": …}."""
    question, answer = first_of(turn, _QUESTIONS), first_of(turn, _ANSWERS)
    if question is None or answer is None or not all(isinstance(turn[key], str) for key in (question, answer)):
        raise BadRowError(f"{name} holds an entry that is not a message with role and content")
    yield Message("user", turn[question])
    yield Message("assistant", turn[answer], learned=True)


def _content(value: object, name: str) -> str:
    """Return a content that is text, or the joined text of its parts."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list | tuple) or not value:
        raise BadRowError(f"{name} holds a message without content")
    texts = []
    for part in value:
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        if not isinstance(kind, str) or kind not in _TEXT_PARTS:
            raise BadRowError(f"{name} holds a content part other than text: {shown(kind)}")
        text = part.get("text")
        if not isinstance(text, str) or part.get("train") is False:
            raise BadRowError(f"{name} holds a content part without text, or with a part that is not learned")
        texts.append(text)
    return "".join(texts)


def _is_learned(turn: Mapping[str, Any], name: str) -> bool:
    """Return whether a turn is learned: OpenAI's ``weight`` is 0 or 1, ``train`` and ``loss`` are true or false."""
    return all(label(turn[key], f"{name}: {key}") for key in _LEARNED_KEYS if turn.get(key) is not None)


def _calls(value: object, name: str) -> tuple[ToolCall, ...]:
    entries = structured(value)
    entries = [entries] if isinstance(entries, Mapping) else entries
    if not isinstance(entries, list | tuple):
        raise BadRowError(f"{name} holds a function call that is not JSON")
    return tuple(_call(entry, name) for entry in entries)


def _call(entry: object, name: str) -> ToolCall:
    function = entry.get("function", entry) if isinstance(entry, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise BadRowError(f"{name} holds a function call without a name")
    arguments = function.get("arguments", function.get("parameters", {}))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    identity = entry.get("id") if isinstance(entry, Mapping) else None
    return ToolCall(function["name"], text, identity if isinstance(identity, str) else None)


def _text_or_none(turn: Mapping[str, Any], key: str) -> str | None:
    value = turn.get(key)
    return value if isinstance(value, str) and value else None
