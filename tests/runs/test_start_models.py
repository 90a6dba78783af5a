"""A stage does not continue from a model folder or with data of another content."""

import json
import os
from pathlib import Path

import pytest

from plaudit import files
from plaudit.config.schema import ModelConfig, TrainedModelConfig
from plaudit.errors import PlauditError
from plaudit.runs import start_models
from plaudit.runs.start_models import record_or_check_data, record_or_check_models


def test_changed_content_is_refused_and_unchanged_files_are_not_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, stage = tmp_path / "model", tmp_path / "reward"
    model.mkdir()
    stage.mkdir()
    weights = model / "model.safetensors"
    weights.write_bytes(b"one")
    section = TrainedModelConfig(path=str(model))
    record_or_check_models(stage, section, begun=False)
    read: list[Path] = []
    original = files.sha256

    def counted(path: Path) -> str:
        read.append(path)
        return original(path)

    monkeypatch.setattr(start_models, "sha256", counted)
    record_or_check_models(stage, section, begun=True)
    assert read == []
    os.utime(weights, ns=(1, 1))
    record_or_check_models(stage, section, begun=True)
    assert read == [weights]
    weights.write_bytes(b"two")
    with pytest.raises(PlauditError, match=rf"^{model}: .*changed since reward began; restore them, or repeat reward"):
        record_or_check_models(stage, section, begun=True)
    record_or_check_models(stage, section, begun=False)
    record_or_check_models(stage, section, begun=True)


def test_the_base_of_an_adapter_is_recorded_as_well(tmp_path: Path) -> None:
    base, adapter, stage = tmp_path / "base", tmp_path / "adapter", tmp_path / "sft"
    for folder in (base, adapter, stage):
        folder.mkdir()
    (base / "model.safetensors").write_bytes(b"one")
    content: dict[str, object] = {"peft_type": "LORA", "base_model_name_or_path": str(base)}
    content |= {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(content))
    section = ModelConfig(path=str(adapter))
    record_or_check_models(stage, section, begun=False)
    (base / "model.safetensors").write_bytes(b"two")
    with pytest.raises(PlauditError, match=rf"^{base}: .*changed since sft began"):
        record_or_check_models(stage, section, begun=True)


def test_changed_data_is_refused_only_by_a_stage_that_has_begun(tmp_path: Path) -> None:
    old, new = {"data/a.jsonl": {"sha256": "1", "bytes": 3}}, {"data/a.jsonl": {"sha256": "2", "bytes": 3}}
    record_or_check_data(tmp_path / "sft", old, begun=False)
    record_or_check_data(tmp_path / "sft", old, begun=True)
    with pytest.raises(PlauditError, match=r"^data/a.jsonl: changed since sft began; .* repeat sft with: .*--restart"):
        record_or_check_data(tmp_path / "sft", new, begun=True)
    record_or_check_data(tmp_path / "sft", old, begun=True)
    record_or_check_data(tmp_path / "sft", new, begun=False)
    record_or_check_data(tmp_path / "sft", new, begun=True)
    (tmp_path / "sft" / ".data.json").write_text('{"data/a.jsonl": {"bytes": 3}}')
    with pytest.raises(PlauditError, match="damaged, an entry without sha256"):
        record_or_check_data(tmp_path / "sft", new, begun=True)


@pytest.mark.parametrize("content", ["", "[]", "[" * 100_000, '{"model": 1}'])
def test_a_damaged_record_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / ".models.json"
    file.write_text(content)
    with pytest.raises(PlauditError, match=rf"^{file}: damaged"):
        record_or_check_models(tmp_path, ModelConfig(path="x"), begun=True)
