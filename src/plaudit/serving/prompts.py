"""Prompts that a program or a file gives, as tokens: rendered as in the training of the model that reads them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from plaudit.config.python_values import records_of
from plaudit.config.schema import DataConfig, GenerationConfig
from plaudit.data.formats.base import BadRowError, checked_prompt
from plaudit.data.formats.dialogues import dialogue_of, not_learned
from plaudit.data.rows import LabeledRow, Message, Origin, Prompt, PromptRow
from plaudit.data.templates import human_assistant_text, uses_chat_template
from plaudit.data.tokenization import tokenize_rows
from plaudit.data.tokenized_row import TokenizedRow
from plaudit.errors import PlauditError

Style = Literal["dialogue", "prompt", "plain"]
ANY_LENGTH = 2**30
"""No limit of length: the caller checks the length, or shortens what is too long in its own way."""

_NEXT_SPEAKER = ["\n\nHuman:", "\n\nAssistant:"]


@dataclass(frozen=True)
class Rendering:
    """How a model reads prompts.

    ``style`` is that of ``ChatSettings``: in a ``dialogue``, a text is a turn of the user; otherwise it is a plain
    prompt. Lists of messages are dialogues in every style. ``data``: the prompt template and the form of dialogues.
    """

    tokenizer: Any
    style: Style
    data: DataConfig

    def prompts(self, rows: Sequence[PromptRow]) -> list[TokenizedRow[PromptRow]]:
        """Return the tokens of each prompt. Raises PlauditError, with its place, for one that cannot be rendered."""
        asked = [replace(row, prompt=self._asked(row.prompt)) for row in rows]
        return _complete(asked, tokenize_rows(asked, self.tokenizer, self.data, ANY_LENGTH).rows)

    def answered(self, rows: Sequence[PromptRow], responses: Sequence[str]) -> list[TokenizedRow[LabeledRow]]:
        """Return the tokens of each prompt with its response, which ends as in training. Raises as ``prompts`` does."""
        # Judged responses end where scores are read, and with one response per row none are compared with each other.
        asked = [
            LabeledRow(self._asked(row.prompt), (response,), (True,), row.origin)
            for row, response in zip(rows, responses, strict=True)
        ]
        return _complete(asked, tokenize_rows(asked, self.tokenizer, self.data, ANY_LENGTH).rows)

    def generation(self, prompt: Prompt, settings: GenerationConfig) -> GenerationConfig:
        """Return the settings for a prompt: among Human/Assistant turns, a reply ends where the next turn begins."""
        if isinstance(self._asked(prompt), str) or uses_chat_template(self.tokenizer, self.data):
            return settings
        return settings.model_copy(update={"stop": [*settings.stop, *_NEXT_SPEAKER]})

    def _asked(self, prompt: Prompt) -> Prompt:
        return (Message("user", prompt),) if isinstance(prompt, str) and self.style == "dialogue" else prompt


def _complete(rows: Sequence[Any], tokenized: Sequence[TokenizedRow[Any]]) -> list[Any]:
    """Return the tokenized rows. Raises PlauditError if one is missing."""
    missing = Counter(row.origin for row in rows) - Counter(row.row.origin for row in tokenized)
    for origin in missing:
        raise PlauditError(
            f"{origin.source} line {origin.line}: this prompt or its response has no tokens, or the chat template does "
            "not write all of it; correct it"
        )
    return list(tokenized)


def prompt_rows(prompts: Iterable[Any], columns: Mapping[str, Iterable[Any]] = MappingProxyType({})) -> list[PromptRow]:
    """Return prompts of a Python program as rows; their place is ``prompts`` with a number that counts from 1.

    A prompt is a text, a list of messages with ``role`` and ``content``, or a row with a column ``prompt``, also of a
    data frame or data set, whose other columns become fields. So do ``columns``. Raises PlauditError for anything
    else, and for a column that is not as long as the prompts.
    """
    if isinstance(prompts, str | bytes | Mapping) or not isinstance(prompts, Iterable):
        raise PlauditError(f"prompts: expected a list of texts or of lists of messages, not {prompts!r:.60}")
    given, lists = list(records_of(prompts)), {name: list(values) for name, values in columns.items()}
    for name, values in lists.items():
        if len(values) != len(given):
            raise PlauditError(f"{name}: {len(values)} values for {len(given)} prompts; give a list with one for each")
    fields = [{name: values[number] for name, values in lists.items()} for number in range(len(given))]
    return [
        PromptRow(_prompt(prompt, number), Origin("prompts", number), _other_columns(prompt) | own)
        for number, (prompt, own) in enumerate(zip(given, fields, strict=True), start=1)
    ]


def _is_row(prompt: Any) -> bool:
    return isinstance(prompt, Mapping) and "prompt" in prompt


def _other_columns(prompt: Any) -> dict[str, Any]:
    return {name: value for name, value in prompt.items() if name != "prompt"} if _is_row(prompt) else {}


def _prompt(given: Any, number: int) -> Prompt:
    prompt = given["prompt"] if _is_row(given) else given
    if isinstance(prompt, str):
        return prompt
    try:
        return checked_prompt(not_learned(dialogue_of(prompt, "a prompt that is not text")))
    except BadRowError as bad:
        raise PlauditError(f"prompts line {number}: {bad}; give a text, or messages with role and content") from bad


def as_text(prompt: Prompt) -> str:
    """Return a prompt as text for what reads no tokens: dialogues as Human/Assistant turns."""
    return prompt if isinstance(prompt, str) else human_assistant_text(prompt)


def as_plain_data(prompt: Prompt) -> str | list[dict[str, Any]]:
    """Return a prompt as JSON data, as it may stand in a row's column ``prompt``."""
    return prompt if isinstance(prompt, str) else [message.as_mapping() for message in prompt]
