"""Dialogues in the spellings of OpenAI, ShareGPT, LLaMA-Factory and Axolotl."""

import json
from typing import Any

import pytest

from plaudit.data.formats.base import BadRowError
from plaudit.data.formats.dialogues import dialogue_of, history_in, tools_in
from plaudit.data.formats.prompts import prompt_in
from plaudit.data.rows import Message, ToolCall
from plaudit.data.rows.messages import tools_of

CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"town": "Ulm"}'}}
WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def learned(role: str, content: str, **more: Any) -> Message:
    return Message(role, content, learned=True, **more)


def test_roles_and_keys() -> None:
    turns = [
        {"from": "system", "value": "S"},
        {"role": "developer", "content": "D"},
        {"from": "human", "value": "q"},
        {"from": "gpt", "value": "a"},
        {"role": "USER", "content": "r"},
        {"role": "model", "content": "b"},
    ]
    wanted = (
        Message("system", "S"),
        Message("system", "D"),
        Message("user", "q"),
        learned("assistant", "a"),
        Message("user", "r"),
        learned("assistant", "b"),
    )
    assert dialogue_of(turns, "messages") == wanted
    assert dialogue_of(json.dumps(turns), "messages") == dialogue_of(str(turns), "messages") == wanted


def test_pairs() -> None:
    expected = (Message("user", "q"), learned("assistant", "a"))
    assert dialogue_of([{"input": "q", "output": "a"}], "conversation") == expected
    assert history_in({"history": [["q", "a"]]}, "history") == expected
    assert history_in({"history": '[["q", "a"]]'}, "history") == expected
    assert history_in({"history": [{"role": "user", "content": "q"}]}, "history") == expected[:1]


def test_content_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a "}, {"type": "text", "text": "b"}, "c"]
    assert dialogue_of([{"role": "user", "content": parts}], "m") == (Message("user", "a bc"),)


def test_tool_calls_and_results() -> None:
    turns = [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c1", "name": "weather", "content": "12 degrees"},
    ]
    call = ToolCall("weather", '{"town": "Ulm"}', "c1")
    found = dialogue_of(turns, "messages")
    assert found == (
        learned("assistant", "", tool_calls=(call,)),
        Message("tool", "12 degrees", name="weather", tool_call_id="c1"),
    )
    assert found[0].as_mapping() == {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Ulm"}}}],
    }
    assert json.loads(found[0].text) == {"name": "weather", "arguments": {"town": "Ulm"}}
    share = [{"from": "function_call", "value": '{"name": "weather", "arguments": {"town": "Ulm"}}'}]
    assert dialogue_of(share, "c")[0].tool_calls == (ToolCall("weather", '{"town": "Ulm"}'),)
    assert dialogue_of([{"from": "observation", "value": "12"}], "c") == (Message("tool", "12"),)


def test_tools_come_first_and_can_be_read_back() -> None:
    for given in ([WEATHER], json.dumps([WEATHER])):
        prompt = prompt_in({"prompt": "Rain?", "tools": given, "system": "S"})
        assert isinstance(prompt, tuple)
        assert [message.role for message in prompt] == ["tools", "system", "user"]
        assert tools_of(prompt) == [WEATHER]
    assert tools_in({"tools": []}, "tools") == ()
    with pytest.raises(BadRowError, match="tools is not a list of functions"):
        tools_in({"tools": "use the weather"}, "tools")


@pytest.mark.parametrize(
    "key, off, on",
    [
        ("weight", 0, 1),
        ("weight", 0.0, 1.0),
        ("loss_weight", 0.0, 1),
        ("train", False, True),
        ("train_on_turn", False, True),
        ("training", "false", "true"),
    ],
)
def test_turns_that_are_not_learned(key: str, off: Any, on: Any) -> None:
    turns = [{"role": "assistant", "content": "a", key: value} for value in (off, on)]
    assert [message.learned for message in dialogue_of(turns, "messages")] == [False, True]


@pytest.mark.parametrize(
    "turn, reason",
    [
        ({"role": "judge", "content": "x"}, "unknown role: judge"),
        ({"role": None, "content": "x"}, "not a message"),
        ({"role": "user"}, "not a message"),
        ({"role": "user", "content": None}, "without content"),
        ({"role": "assistant", "content": None}, "without content"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, "other than text: image_url"),
        ({"role": "user", "content": "x", "images": ["a.png"]}, "images, which is not read"),
        ({"role": "assistant", "content": "x", "reasoning_content": "hm"}, "reasoning_content, which is not read"),
        ({"role": "assistant", "content": "x", "weight": 0.5}, "weight is not true or false"),
        ({"role": "assistant", "content": "", "tool_calls": [{"function": {}}]}, "without a name"),
        ({"from": "function_call", "value": "call it"}, "not JSON"),
        ("hello", "not a message"),
    ],
)
def test_what_cannot_be_read_is_bad(turn: Any, reason: str) -> None:
    with pytest.raises(BadRowError, match=reason):
        dialogue_of([{"role": "user", "content": "q"}, turn], "messages")


def test_the_columns_around_a_prompt_become_earlier_turns() -> None:
    record = {"system_prompt": "S", "history": [["q", "a"]], "instruction": " Add. ", "input": "2, 3"}
    expected = (
        Message("system", "S"),
        Message("user", "q"),
        Message("assistant", "a"),
        Message("user", "Add.\n\n2, 3"),
    )
    assert prompt_in(record, ("prompt", "instruction")) == expected
    learning = prompt_in(record, "instruction", learn=True)
    assert [isinstance(message, Message) and message.learned for message in learning] == [False, False, True, False]


def test_a_plain_prompt_stays_text_unless_turns_come_before_it() -> None:
    assert prompt_in({"prompt": " The sky", "system": "", "history": [], "tools": None}) == " The sky"
    assert prompt_in({"prompt": ["The sky"]}) == "The sky"
    assert prompt_in({"prompt": '["The", "sky"]'}) == '["The", "sky"]', "text in brackets is no dialogue"
    turns = [{"role": "user", "content": "Hi"}]
    assert prompt_in({"prompt": json.dumps(turns)}) == (Message("user", "Hi"),)


def test_a_system_message_given_twice() -> None:
    turns = [{"role": "system", "content": "S"}, {"role": "user", "content": "Hi"}]
    assert prompt_in({"prompt": turns, "system": "S"}) == (Message("system", "S"), Message("user", "Hi"))
    with pytest.raises(BadRowError, match="two different system messages"):
        prompt_in({"prompt": turns, "system": "T"})
