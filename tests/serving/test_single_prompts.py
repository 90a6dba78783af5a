"""A single prompt goes through the tokenizer's chat template, unless a prompt template says otherwise."""

from types import SimpleNamespace
from typing import Any

import pytest

from plaudit.config.schema import DataConfig, SourceConfig
from plaudit.data.rows import Message
from plaudit.serving.chat_model import ChatModel


def alone(style: str, chat_template: str | None, prompt_template: str = "{prompt}") -> Any:
    chat_model = object.__new__(ChatModel)
    data = DataConfig(sources=[SourceConfig(path="a.jsonl")], prompt_template=prompt_template)
    chat_model.settings = SimpleNamespace(style=style, data=data)  # type: ignore[assignment]
    chat_model._loaded = SimpleNamespace(tokenizer=SimpleNamespace(chat_template=chat_template))  # type: ignore[assignment]
    return chat_model._alone("hello")


@pytest.mark.parametrize(
    "style, chat_template, prompt_template, templated",
    [
        ("prompt", "a template", "{prompt}", True),
        ("prompt", "a template", "Q: {prompt}", False),
        ("prompt", None, "{prompt}", False),
        ("plain", "a template", "{prompt}", False),
    ],
)
def test_who_renders_a_prompt(style: str, chat_template: str | None, prompt_template: str, templated: bool) -> None:
    expected = (Message("user", "hello"),) if templated else "hello"
    assert alone(style, chat_template, prompt_template) == expected
