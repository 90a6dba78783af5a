"""Python code in a model's folder runs only if the configuration says so, and nothing asks on standard input."""

import json
import sys
from io import StringIO
from pathlib import Path

import pytest
import torch

from model_folders import saved
from plaudit.config.schema import ClassifierReward, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy
from plaudit.rewards.sources import build_reward
from tiny_models import tiny_causal_model

CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({mark!r}).touch()


class OwnConfig(LlamaConfig):
    model_type = "own-llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


class NoInput(StringIO):
    """Standard input that must not be read."""

    def readline(self, *_: object) -> str:  # type: ignore[override]
        raise AssertionError("asked on standard input")


def test_code_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", NoInput())
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    mark = tmp_path / "code-has-run"
    folder = saved(tiny_causal_model("llama"), tmp_path / "model")
    (folder / "own.py").write_text(CODE.format(mark=str(mark)))
    content = json.loads((folder / "config.json").read_text())
    content |= {
        "model_type": "own-llama",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(PlauditError, match=rf"{folder}: it needs Python code .* trust_remote_code: true"):
        load_policy(ModelConfig(path=str(folder)), torch.device("cpu"))
    with pytest.raises(PlauditError, match="trust_remote_code: true"):
        build_reward([ClassifierReward(name="mood", path=str(folder))], torch.device("cpu"))
    assert not mark.exists()
    load_policy(ModelConfig(path=str(folder), trust_remote_code=True), torch.device("cpu"))
    assert mark.exists()
