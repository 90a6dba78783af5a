"""Prompts rendered as text."""

from collections import Counter
from typing import Any

import pytest

from plaudit.config.schema import DataConfig
from plaudit.data.rows import Message, Origin, Prompt, PromptRow, TextRow
from plaudit.data.rows.base import prompt_kind
from plaudit.data.special_tokens import Text
from plaudit.data.templates import Rendered, Renderer, check_prompt_template
from plaudit.errors import PlauditError
from tiny_tokenizers import CHAT_TEMPLATE, byte_level

ORIGIN = Origin("f.jsonl", 7)
TURNS = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Bye"))


def _rendered(prompt: Prompt, tokenizer: Any, **options: object) -> Rendered:
    config = DataConfig.model_validate({"sources": ["rows.jsonl"], **options})
    (rendered,) = Renderer(tokenizer, config).render(PromptRow(prompt, ORIGIN))
    return rendered


def test_plain_prompts_go_into_the_template_with_any_braces() -> None:
    rendered = _rendered("a {b}?", byte_level(), prompt_template="{x} Question: {prompt}\nAnswer:")
    assert rendered == Rendered(Text("{x} Question: a {b}?\nAnswer:"))
    with pytest.raises(PlauditError, match="prompt_template does not contain"):
        _rendered("a", byte_level(), prompt_template="no place")


def test_special_tokens_of_a_prompt_template_are_tokens_and_those_of_the_data_are_text() -> None:
    rendered = _rendered("a <end>", byte_level(), prompt_template="{prompt}<end>{prompt}")
    assert rendered == Rendered(Text("a <end><end>a <end>", (2, 14)))


def test_dialogues_become_human_and_assistant_turns() -> None:
    expected = Rendered(Text("\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye\n\nAssistant:"))
    assert _rendered(TURNS, byte_level()) == expected
    assert _rendered(TURNS, byte_level(CHAT_TEMPLATE), conversation="human_assistant") == expected
    with_system = (Message("system", "Be kind."), *TURNS[:1])
    assert _rendered(with_system, byte_level()).prompt.text == "Be kind.\n\nHuman: Hi\n\nAssistant:"
    assert _rendered(TURNS[:2], byte_level()).prompt.text == "\n\nHuman: Hi\n\nAssistant: Hello."


@pytest.mark.parametrize("conversation", ["auto", "chat_template"])
def test_dialogues_go_through_the_chat_template(conversation: str) -> None:
    text = "<turn>user\nHi<end>\n<turn>assistant\nHello.<end>\n<turn>user\nBye<end>\n<turn>assistant\n"
    rendered = _rendered(TURNS, byte_level(CHAT_TEMPLATE), conversation=conversation)
    assert rendered == Rendered(Text(text), special_tokens=True)


def test_a_missing_or_failing_chat_template_is_named() -> None:
    with pytest.raises(PlauditError, match="the tokenizer has no chat template"):
        _rendered(TURNS, byte_level(), conversation="chat_template")
    refusing = byte_level("{{ raise_exception('roles must alternate') }}")
    with pytest.raises(PlauditError, match=r"f.jsonl line 7: the chat template rejects .*roles must alternate"):
        _rendered(TURNS, refusing)


@pytest.mark.parametrize("prompts, refused", [([TURNS], "dialogues"), ([None], "plain text"), ([TURNS, "a"], "")])
def test_a_prompt_template_without_a_plain_prompt_is_refused(prompts: list[Any], refused: str) -> None:
    rows = [TextRow("t", ORIGIN) if prompt is None else PromptRow(prompt, ORIGIN) for prompt in prompts]
    kinds = Counter(map(prompt_kind, rows))
    for template in ("{prompt}", "Q: {prompt}"):
        config = DataConfig.model_validate({"sources": ["f.jsonl"], "prompt_template": template})
        if refused and template != "{prompt}":
            with pytest.raises(
                PlauditError, match=rf"^sft\.data\.prompt_template: f\.jsonl holds {refused}.*; remove it"
            ):
                check_prompt_template(kinds, config, "sft.data", "f.jsonl")
        else:
            check_prompt_template(kinds, config, "sft.data", "f.jsonl")


def test_dialogues_beside_plain_prompts_are_counted() -> None:
    config = DataConfig.model_validate({"sources": ["f.jsonl"], "prompt_template": "Q: {prompt}"})
    renderer = Renderer(byte_level(), config)
    for prompt in (TURNS, "a"):
        renderer.render(PromptRow(prompt, ORIGIN))
    assert renderer.counted["dialogues are not put into prompt_template, which is for plain prompts"] == 1
