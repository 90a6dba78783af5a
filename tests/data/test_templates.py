"""Prompts rendered as text."""

import pytest

from plaudit.config.schema import DataConfig
from plaudit.data.rows import Message, Origin
from plaudit.data.templates import RenderedPrompt, render_prompt
from plaudit.errors import PlauditError
from tiny_tokenizers import CHAT_TEMPLATE, byte_level

TURNS = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye"))


def _config(**options: object) -> DataConfig:
    return DataConfig.model_validate({"sources": ["rows.jsonl"], **options})


def test_plain_prompts_go_into_the_template_with_any_braces() -> None:
    config = _config(prompt_template="{x} Question: {prompt}\nAnswer:")
    rendered = render_prompt("a {b}?", byte_level(), config)
    assert rendered == RenderedPrompt("{x} Question: a {b}?\nAnswer:", False, "")
    with pytest.raises(PlauditError, match="prompt_template does not contain"):
        render_prompt("a", byte_level(), _config(prompt_template="no place"))


def test_dialogues_become_human_and_assistant_turns() -> None:
    expected = RenderedPrompt("\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye\n\nAssistant:", False, " ")
    assert render_prompt(TURNS, byte_level(), _config()) == expected
    assert render_prompt(TURNS, byte_level(CHAT_TEMPLATE), _config(conversation="human_assistant")) == expected
    with_system = (Message("system", "Be kind."), *TURNS[:1])
    assert render_prompt(with_system, byte_level(), _config()).text == "Be kind.\n\nHuman: Hi\n\nAssistant:"


@pytest.mark.parametrize("conversation", ["auto", "chat_template"])
def test_dialogues_go_through_the_chat_template(conversation: str) -> None:
    text = "<turn>user\nHi<end>\n<turn>assistant\nHello.<end>\n<turn>user\nBye<end>\n<turn>assistant\n"
    rendered = render_prompt(TURNS, byte_level(CHAT_TEMPLATE), _config(conversation=conversation))
    assert rendered == RenderedPrompt(text, True, "")


def test_a_missing_or_failing_chat_template_is_named() -> None:
    with pytest.raises(PlauditError, match="the tokenizer has no chat template"):
        render_prompt(TURNS, byte_level(), _config(conversation="chat_template"))
    refusing = byte_level("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(PlauditError, match=r"f.jsonl line 7: the chat template rejects .*roles must alternate"):
        render_prompt(TURNS, refusing, _config(), Origin("f.jsonl", 7))
