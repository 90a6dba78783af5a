"""The weights that an engine in another process receives equal those of a saved model, bit for bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from generating_models import tiny_model, word_tokenizer
from plaudit.config.schema import LoraConfig
from plaudit.errors import PlauditError
from plaudit.models.adapters.lora import with_adapter
from plaudit.models.saving import save_model, saved_weights

TARGETS = {"llama": ["q_proj", "down_proj"], "gpt2": ["c_attn"], "opt": ["k_proj", "fc1"]}


def plain(architecture: str, **options: Any) -> Any:
    return tiny_model(architecture, **options)


def adapted(architecture: str, **options: Any) -> Any:
    """A policy whose adapter is active, with a second one that is not."""
    config = LoraConfig(rank=2, alpha=5, targets=TARGETS[architecture])
    model: Any = with_adapter(tiny_model(architecture, **options), config, "CAUSAL_LM")
    model.add_adapter("value", model.peft_config["default"])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", list(TARGETS))
@pytest.mark.parametrize("make", [plain, adapted])
def test_names_and_values_are_those_of_the_saved_model(
    make: Callable[..., Any], architecture: str, tied: bool, tmp_path: Path
) -> None:
    model = make(architecture, tie_word_embeddings=tied)
    learned = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    found = {name: tensor.clone() for name, tensor in saved_weights(model)}
    save_model(model, word_tokenizer(), tmp_path)
    assert all(torch.equal(parameter, learned[name]) for name, parameter in model.named_parameters())
    saved = load_file(tmp_path / "model.safetensors")
    merged = model.merge_and_unload() if make is adapted else model
    merged.save_pretrained(tmp_path / "transformers")
    expected = load_file(tmp_path / "transformers" / "model.safetensors")
    assert found.keys() == saved.keys() == expected.keys()
    assert all(torch.equal(tensor, saved[name]) for name, tensor in expected.items())
    for name, tensor in saved.items():
        assert torch.equal(found[name], tensor), name


def test_half_precision_is_merged_as_it_is_saved(tmp_path: Path) -> None:
    model = adapted("llama").to(torch.bfloat16)
    found = dict(saved_weights(model))
    save_model(model, word_tokenizer(), tmp_path)
    for name, tensor in load_file(tmp_path / "model.safetensors").items():
        assert found[name].dtype == torch.bfloat16
        assert torch.equal(found[name], tensor), name


def test_tensors_are_merged_only_when_iterated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("llama")
    merges: list[str] = []
    monkeypatch.setattr("plaudit.models.saving.merged_tensor", lambda layer, kind: merges.append(kind))
    weights = saved_weights(model)
    assert merges == []
    assert len(dict(weights)) == 21
    assert merges == ["weight"] * 4


def test_adapters_on_a_quantized_base_cannot_be_merged() -> None:
    model = adapted("llama")
    model.get_base_model().is_quantized = True
    with pytest.raises(PlauditError, match=r"remove model\.quantization"):
        next(saved_weights(model))
