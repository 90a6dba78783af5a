"""Prompts and responses as text: plain templates, the tokenizer's chat template, or Human/Assistant turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.config.schema import DataConfig
from plaudit.data.rows import Message, Origin, Prompt
from plaudit.data.rows.messages import TOOLS, tools_of
from plaudit.errors import PlauditError

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as text.

    ``special_tokens``: whether the text already contains its special tokens. ``separator``: the text between prompt and
    response.
    """

    text: str
    special_tokens: bool
    separator: str


def render_prompt(prompt: Prompt, tokenizer: Any, config: DataConfig, origin: Origin | None = None) -> RenderedPrompt:
    """Render a prompt up to the beginning of the response.

    Plain text is put into ``prompt_template``. Dialogues are rendered with the tokenizer's chat template or as
    Human/Assistant turns, depending on ``conversation``. Raises PlauditError if the template is missing or fails.
    """
    if isinstance(prompt, str):
        if "{prompt}" not in config.prompt_template:
            raise PlauditError("prompt_template does not contain {prompt}; put {prompt} where the prompt belongs")
        return RenderedPrompt(config.prompt_template.replace("{prompt}", prompt), False, "")
    if uses_chat_template(tokenizer, config):
        return RenderedPrompt(_chat_text(prompt, tokenizer, origin), True, "")
    return RenderedPrompt(human_assistant_text(prompt), False, " ")


def uses_chat_template(tokenizer: Any, config: DataConfig) -> bool:
    """Return whether dialogues use the tokenizer's chat template. Raises PlauditError if a required one is missing."""
    if config.conversation == "chat_template" and not tokenizer.chat_template:
        raise PlauditError(
            "conversation=chat_template, but the tokenizer has no chat template; set model.chat_template, or "
            "conversation=human_assistant"
        )
    return config.conversation != "human_assistant" and bool(tokenizer.chat_template)


def human_assistant_text(prompt: Sequence[Message]) -> str:
    """Return a dialogue in the format of HH-RLHF, up to the final "Assistant:" (Bai et al. 2022)."""
    return "".join(_turn(message) for message in prompt) + "\n\nAssistant:"


def _turn(message: Message) -> str:
    speaker = _SPEAKERS.get(message.role)
    return f"\n\n{speaker}: {message.text}" if speaker else message.text


def _chat_text(prompt: Sequence[Message], tokenizer: Any, origin: Origin | None) -> str:
    import jinja2

    turns = [message.as_mapping() for message in prompt if message.role != TOOLS]
    tools = tools_of(prompt) or None
    try:
        text: str = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, tools=tools)
    except jinja2.TemplateError as error:
        where = f"{origin.source} line {origin.line}: " if origin else ""
        raise PlauditError(
            f"{where}the chat template rejects the dialogue ({error}); correct the dialogue, or set "
            "conversation=human_assistant"
        ) from error
    return text
