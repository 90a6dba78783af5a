"""A LoRA folder that peft saved is a model to start from: it is merged into its base."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch

from model_folders import read_weights, saved, write_weights
from plaudit.config.schema import LoraConfig, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy, load_scorer
from plaudit.models.saving import save_model
from plaudit.serving.targets import find_target, open_chat_model
from tiny_models import tiny_causal_model

CPU = torch.device("cpu")
TOKENS = torch.arange(4, 20).reshape(2, 8)


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, torch.Tensor]:
    """Return the folder of an adapter, and the logits of the model with it."""
    base = saved(tiny_causal_model("llama"), tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "down_proj"])
    model: Any = load_policy(ModelConfig(path=str(base)), CPU).model
    adapted: Any = peft.get_peft_model(model, config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.normal_()
        logits = adapted(input_ids=TOKENS).logits
    adapted.save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter", logits


def logits_of(model: Any) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=TOKENS).logits
    return logits


def test_it_is_merged_and_can_be_trained(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    folder, expected = adapter
    loaded = load_policy(ModelConfig(path=str(folder)), CPU)
    assert not hasattr(loaded.model, "peft_config")
    assert all(parameter.requires_grad for parameter in loaded.model.parameters())
    torch.testing.assert_close(logits_of(loaded.model), expected, rtol=1e-4, atol=1e-4)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")
    again = load_policy(ModelConfig(path=str(tmp_path / "saved")), CPU)
    torch.testing.assert_close(logits_of(again.model), expected, rtol=1e-4, atol=1e-4)


def test_a_new_adapter_belongs_to_the_merged_weights(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, expected = adapter
    model: Any = load_policy(ModelConfig(path=str(folder), lora=LoraConfig(rank=2)), CPU).model
    torch.testing.assert_close(logits_of(model), expected, rtol=1e-4, atol=1e-4)
    assert model.peft_config["default"].base_model_name_or_path == str(folder)
    assert {name.split(".")[-3] for name, p in model.named_parameters() if p.requires_grad} == {"lora_A", "lora_B"}


def test_it_is_no_reward_model(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, _ = adapter
    assert not load_scorer(ModelConfig(path=str(folder)), CPU)[1]


def test_a_chat_opens_it_and_not_a_run_of_the_same_name(
    adapter: tuple[Path, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs/adapter").mkdir(parents=True)
    (tmp_path / "runs/adapter/config.yaml").write_text("name: adapter\n")
    target = find_target("./adapter")
    assert target.model == "./adapter"
    open_chat_model(target, target.chat_settings(1, 0, True, {"max_new_tokens": 2}), device="cpu").close()


def test_damaged_adapters_are_refused(adapter: tuple[Path, torch.Tensor]) -> None:
    folder, _ = adapter
    (folder / "adapter_model.safetensors").rename(folder / "model.safetensors")
    weights = read_weights(folder)
    for changed, problem in (
        ({f"other.{name}": tensor for name, tensor in weights.items()}, r"missing.*other\."),
        (dict(list(weights.items())[1:]), "1 .* missing"),
        ({**weights, next(iter(weights)): torch.zeros(3, 3)}, "size mismatch|another shape"),
    ):
        write_weights(folder, changed)
        (folder / "adapter_model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
        with pytest.raises(PlauditError, match=rf"adapter {folder}: .*{problem}"):
            load_policy(ModelConfig(path=str(folder)), CPU)
    for content in ("{", json.dumps({"peft_type": "PREFIX_TUNING", "base_model_name_or_path": "x"})):
        (folder / "adapter_config.json").write_text(content)
        with pytest.raises(PlauditError, match=rf"{folder}/adapter_config\.json: "):
            load_policy(ModelConfig(path=str(folder)), CPU)
