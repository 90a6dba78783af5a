"""How a model's prompts were rendered in training, in a file of its folder, so that chat and evaluation do the same."""

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from plaudit.config.schema import DataConfig
from plaudit.data.rows.base import PromptKind
from plaudit.data.templates import uses_chat_template
from plaudit.errors import PlauditError

RECORD_FILE = "plaudit_prompts.json"
_ATTRIBUTE = "plaudit_prompts"

Conversation = Literal["chat_template", "human_assistant"]


@dataclass(frozen=True)
class PromptRecord:
    """How prompts were rendered.

    ``prompts``: what most rows held: plain text without a prompt, plain prompts, or dialogues. ``conversation``: how
    dialogues become text. ``chat_template``: whether the tokenizer has a chat template; plain prompts bypass it.
    """

    prompts: PromptKind
    prompt_template: str
    conversation: Conversation
    chat_template: bool

    def __str__(self) -> str:
        if self.prompts == "dialogue":
            return "dialogues through the chat template" if self.conversation == "chat_template" else "Human/Assistant"
        return "plain text" if self.prompts == "text" else f"plain prompts in {self.prompt_template!r}"

    def applied_to(self, data: DataConfig) -> DataConfig:
        """Return settings of data that render prompts in this way."""
        conversation = "human_assistant" if self.conversation == "human_assistant" else "auto"
        return data.model_copy(update={"prompt_template": self.prompt_template, "conversation": conversation})


def record_of(kinds: Counter[PromptKind], tokenizer: Any, config: DataConfig) -> PromptRecord:
    """Return how prompts are rendered, of which ``kinds`` counts the rows by kind."""
    prompts: PromptKind = kinds.most_common(1)[0][0] if kinds else "plain"
    uses = prompts == "dialogue" and uses_chat_template(tokenizer, config)
    chat = uses or (config.conversation != "human_assistant" and bool(tokenizer.chat_template))
    return PromptRecord(
        prompts, config.prompt_template, "chat_template" if chat else "human_assistant", bool(tokenizer.chat_template)
    )


def remember(tokenizer: Any, record: PromptRecord) -> None:
    """Keep the record with a tokenizer until the model is saved."""
    setattr(tokenizer, _ATTRIBUTE, record)


def write_record(tokenizer: Any, folder: Path) -> None:
    """Write the record that was kept with a tokenizer, if there is one, into the folder of its model."""
    record = getattr(tokenizer, _ATTRIBUTE, None)
    if record is not None:
        (folder / RECORD_FILE).write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n", "utf-8")


def read_record(path: str | None) -> PromptRecord | None:
    """Return the record in a model's folder; None if it has none. Raises PlauditError for a damaged one."""
    file = Path(str(path)) / RECORD_FILE
    if path is None or not file.is_file():
        return None
    remedy = "delete it, and the model is treated like one from elsewhere"
    try:
        record = PromptRecord(**json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise PlauditError(f"{file}: not a record of prompts ({error}); {remedy}") from error
    known = record.prompts in ("text", "plain", "dialogue") and record.conversation in (
        "chat_template",
        "human_assistant",
    )
    if not known or not isinstance(record.prompt_template, str) or "{prompt}" not in record.prompt_template:
        raise PlauditError(f"{file}: not a record of prompts (unknown values); {remedy}")
    return record
