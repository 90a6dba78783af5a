"""A stage does not continue from a model folder with another content."""

import os
from pathlib import Path

import pytest

from plaudit.config.schema import TrainedModelConfig
from plaudit.errors import PlauditError
from plaudit.runs import files, start_models
from plaudit.runs.start_models import record_or_check_models


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
