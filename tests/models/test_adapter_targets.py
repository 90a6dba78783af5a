"""Targets of adapters that a model does not have are refused, with the nearest names."""

import json
from pathlib import Path

import peft
import pytest
import torch
from transformers import LlamaForCausalLM

from model_folders import saved
from plaudit.config.schema import LoraConfig, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.adapters.lora import with_adapter
from plaudit.models.loading.models import load_policy
from tiny_models import tiny_causal_model

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "targets, message",
    [
        (["q_prj"], "the model has no module 'q_prj'; nearest names: q_proj, "),
        (["q_proj", "proj"], "the model has no module 'proj'; nearest names: "),
        (["norm"], r"'norm' fits model.norm \(LlamaRMSNorm\), which has no weight matrix; nearest names: "),
        (["q_proj", "mlp"], r"'mlp' fits model.layers.0.mlp \(LlamaMLP\), which has no weight matrix; "),
        ([], "names no module; write all-linear"),
        ("", "names no module; write all-linear"),
        ("q_proj", "'q_proj' matches the complete name of no module, such as model.layers.1.mlp.down_proj; write a"),
        (".*norm", r"'.\*norm' fits model.layers.0.input_layernorm \(LlamaRMSNorm\), which has no"),
        ("*", r"'\*' is not a regular expression \(nothing to repeat at position 0\); write a list"),
    ],
)
def test_targets_without_a_module_are_refused(targets: list[str] | str, message: str) -> None:
    with pytest.raises(PlauditError, match=f"^lora.targets: .*{message}"):
        with_adapter(tiny_causal_model("llama"), LoraConfig(targets=targets), "CAUSAL_LM")


@pytest.mark.parametrize(
    "targets, adapted",
    [(["1.self_attn.q_proj", "lm_head"], 2), (r".*\.[qk]_proj", 4), ("all-linear", 14), (["embed_tokens"], 1)],
)
def test_targets_that_the_model_has_are_adapted(targets: list[str] | str, adapted: int) -> None:
    model = with_adapter(tiny_causal_model("llama"), LoraConfig(targets=targets), "CAUSAL_LM")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * adapted


def test_what_peft_refuses_otherwise_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise NotImplementedError("these\nlayers are not supported")

    monkeypatch.setattr(peft, "get_peft_model", refuse)
    with pytest.raises(PlauditError, match=r"^lora.targets: q_proj: .*these layers are not .*; choose other modules$"):
        with_adapter(tiny_causal_model("llama"), LoraConfig(targets=["q_proj"]), "CAUSAL_LM")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"r": 0}, "r 0 and lora_alpha 8: expected a whole number above 0 and a number"),
        ({"r": "2"}, "r '2' and lora_alpha 8: expected"),
        ({"lora_alpha": None}, "r 8 and lora_alpha None: expected"),
        ({"target_modules": None}, "target_modules None: expected names of modules"),
        ({"target_modules": ["nosuch"]}, r"cannot load adapter .*nosuch.*not found"),
        ({"layers_to_transform": [99]}, "cannot load adapter .*"),
        ({"modules_to_save": ["nosuch"]}, "adapter_config.json: modules_to_save: the model has no module 'nosuch'"),
        ({"bias": "odd"}, "cannot load adapter .*"),
    ],
)
@pytest.mark.parametrize("lora", [None, LoraConfig(start="continue")])
def test_a_damaged_adapter_folder_is_one_line(
    tmp_path: Path, change: dict[str, object], message: str, lora: LoraConfig | None
) -> None:
    base = saved(tiny_causal_model("llama"), tmp_path / "base")
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])
    peft.get_peft_model(LlamaForCausalLM.from_pretrained(base), config).save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(PlauditError, match=message) as refused:
        load_policy(ModelConfig(path=str(tmp_path / "adapter"), lora=lora), CPU)
    assert "\n" not in str(refused.value)
