"""How prompts were rendered is stored with the model."""

from collections import Counter
from pathlib import Path

import pytest

from plaudit.config.schema import DataConfig
from plaudit.data.prompt_record import (
    RECORD_FILE,
    PromptRecord,
    read_record,
    record_of,
    remember,
    write_record,
)
from plaudit.data.rows import Message, Origin, ResponseRow, Row, TextRow
from plaudit.data.rows.base import prompt_kind
from plaudit.errors import PlauditError
from plaudit.serving.targets import find_target
from tiny_tokenizers import CHAT_TEMPLATE, byte_level

AT = Origin("rows.jsonl", 3)
PLAIN = ResponseRow("Hi", "Hello.", AT)
DIALOGUE = ResponseRow((Message("user", "Hi"),), "Hello.", AT)


def _config(**options: object) -> DataConfig:
    return DataConfig.model_validate({"sources": ["rows.jsonl"], **options})


@pytest.mark.parametrize(
    "rows, template, options, expected",
    [
        ([PLAIN], CHAT_TEMPLATE, {}, PromptRecord("plain", "{prompt}", "chat_template", True)),
        (
            [PLAIN],
            None,
            {"prompt_template": "Q: {prompt}"},
            PromptRecord("plain", "Q: {prompt}", "human_assistant", False),
        ),
        ([DIALOGUE, DIALOGUE, PLAIN], CHAT_TEMPLATE, {}, PromptRecord("dialogue", "{prompt}", "chat_template", True)),
        ([DIALOGUE], None, {}, PromptRecord("dialogue", "{prompt}", "human_assistant", False)),
        ([TextRow("sky", AT)], None, {}, PromptRecord("text", "{prompt}", "human_assistant", False)),
    ],
)
def test_records_say_how_prompts_are_rendered(
    tmp_path: Path, rows: list[Row], template: str | None, options: dict[str, str], expected: PromptRecord
) -> None:
    tokenizer = byte_level(template)
    record = record_of(Counter(map(prompt_kind, rows)), tokenizer, _config(**options))
    assert record == expected
    write_record(tokenizer, tmp_path)
    assert read_record(str(tmp_path)) is None
    remember(tokenizer, record)
    write_record(tokenizer, tmp_path)
    assert read_record(str(tmp_path)) == record


@pytest.mark.parametrize("prompts, style", [("plain", "prompt"), ("dialogue", "dialogue"), ("text", "plain")])
def test_a_chat_renders_prompts_as_in_training(tmp_path: Path, prompts: str, style: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    tokenizer = byte_level()
    remember(tokenizer, PromptRecord(prompts, "Q: {prompt}", "human_assistant", True))  # type: ignore[arg-type]
    write_record(tokenizer, tmp_path)
    target = find_target(str(tmp_path))
    assert (target.style, target.data.prompt_template) == (style, "Q: {prompt}")
    assert target.data.conversation == "human_assistant"


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"prompts": "x", "prompt_template": "", "conversation": 1, "chat_template": 0}']
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / RECORD_FILE).write_text(text)
    with pytest.raises(PlauditError, match=RECORD_FILE):
        read_record(str(tmp_path))
