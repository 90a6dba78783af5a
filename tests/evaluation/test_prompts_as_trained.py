"""An evaluation renders prompts as in the training of its models."""

from pathlib import Path

import pytest

from plaudit.config.schema import DataConfig, ModelConfig
from plaudit.data.prompt_record import PromptRecord, remember, write_record
from plaudit.evaluation.prompts import as_trained
from tiny_tokenizers import byte_level


def _models(folder: Path, *templates: str) -> dict[str, ModelConfig]:
    models = {"base": ModelConfig(path=str(folder))}
    for number, template in enumerate(templates):
        tokenizer, own = byte_level(), folder / str(number)
        own.mkdir()
        remember(tokenizer, PromptRecord("plain", template, "human_assistant", True))
        write_record(tokenizer, own)
        models[f"model {number}"] = ModelConfig(path=str(own))
    return models


@pytest.mark.parametrize(
    "templates, given, used, warned",
    [
        (["Q: {prompt}", "Q: {prompt}"], {}, "Q: {prompt}", []),
        (["Q: {prompt}", "A: {prompt}"], {}, "{prompt}", ["model 0", "model 1"]),
        (["Q: {prompt}"], {"prompt_template": "A: {prompt}"}, "A: {prompt}", ["model 0"]),
        (["Q: {prompt}"], {"prompt_template": "Q: {prompt}"}, "Q: {prompt}", []),
        ([], {}, "{prompt}", []),
    ],
)
def test_prompts_are_rendered_as_in_training(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    templates: list[str],
    given: dict[str, str],
    used: str,
    warned: list[str],
) -> None:
    data = DataConfig.model_validate({"sources": ["rows.jsonl"], **given})
    with caplog.at_level("WARNING"):
        assert as_trained(data, _models(tmp_path, *templates)).prompt_template == used
    assert [line.getMessage().split(" was ")[0] for line in caplog.records] == [f"evaluate: {name}" for name in warned]
