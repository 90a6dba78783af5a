"""Prompts and responses as text: plain templates, the tokenizer's chat template, or Human/Assistant turns."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plaudit.config.schema import DataConfig
from plaudit.data.rows import Message, Origin, Prompt
from plaudit.errors import PlauditError

_SPEAKERS = {"user": "Human", "assistant": "Assistant"}


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as text.

    ``special_tokens`` says whether the text already holds the special tokens that it needs, and ``separator`` is what
    stands between prompt and response.
    """

    text: str
    special_tokens: bool
    separator: str


def render_prompt(prompt: Prompt, tokenizer: Any, config: DataConfig, origin: Origin | None = None) -> RenderedPrompt:
    """Render a prompt up to where the response begins.

    Plain text goes into ``prompt_template``; the turns of a dialogue go through the tokenizer's chat template or
    become Human/Assistant turns, as ``conversation`` says. Raises PlauditError for a template that cannot do it.
    """
    if isinstance(prompt, str):
        if "{prompt}" not in config.prompt_template:
            raise PlauditError("prompt_template does not contain {prompt}; put {prompt} where the prompt belongs")
        return RenderedPrompt(config.prompt_template.replace("{prompt}", prompt), False, "")
    if uses_chat_template(tokenizer, config):
        return RenderedPrompt(_chat_text(prompt, tokenizer, origin), True, "")
    return RenderedPrompt(human_assistant_text(prompt), False, " ")


def uses_chat_template(tokenizer: Any, config: DataConfig) -> bool:
    """Say whether dialogues go through the tokenizer's chat template; raises PlauditError when it lacks one."""
    if config.conversation == "chat_template" and not tokenizer.chat_template:
        raise PlauditError(
            "conversation is chat_template, but the tokenizer has none; give the model a chat_template, "
            "or set conversation to human_assistant"
        )
    return config.conversation != "human_assistant" and bool(tokenizer.chat_template)


def human_assistant_text(prompt: Sequence[Message]) -> str:
    """Return a dialogue in the form of HH-RLHF, up to the colon after which the assistant speaks (Bai et al. 2022)."""
    return "".join(_turn(message) for message in prompt) + "\n\nAssistant:"


def _turn(message: Message) -> str:
    speaker = _SPEAKERS.get(message.role)
    return f"\n\n{speaker}: {message.content}" if speaker else message.content


def _chat_text(prompt: Sequence[Message], tokenizer: Any, origin: Origin | None) -> str:
    import jinja2

    turns = [{"role": message.role, "content": message.content} for message in prompt]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    except jinja2.TemplateError as error:
        place = f"{origin.source} line {origin.line}: " if origin else ""
        raise PlauditError(
            f"{place}the chat template rejects the dialogue ({error}); correct it, or set conversation to "
            "human_assistant"
        ) from error
