"""What a model's files lack is found without reading a value, for the architectures that are in use."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

from model_folders import read_weights, write_weights
from plaudit.errors import PlauditError
from plaudit.models.loading.stored_weights import refuse_lacking_weights
from tiny_models import GROUPED_QUERIES, SIZES, tiny_causal_model, tiny_classifier

ENCODERS = ["bert", "roberta", "electra", "deberta-v2"]
EXPERTS = {"num_experts": 2, "num_local_experts": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8}


def encoder(name: str) -> Any:
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4}
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(name, vocab_size=40, **sizes))


def whole(folder: Path, model: Any) -> str:
    model.save_pretrained(folder)
    return str(folder)


def is_accepted(path: str, role: Any) -> bool:
    try:
        refuse_lacking_weights(path, role)
    except PlauditError:
        return False
    return True


@pytest.mark.parametrize("name", SIZES)
def test_whole_language_models(tmp_path: Path, name: str) -> None:
    path = whole(tmp_path, tiny_causal_model(name))
    refuse_lacking_weights(path, "language model")
    if name in ("cohere", "granite"):
        with pytest.raises(PlauditError, match=f"transformers has no sequence classifier of type {name}"):
            refuse_lacking_weights(path, "start of a reward model")
    else:
        refuse_lacking_weights(path, "start of a reward model")


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe"])
def test_experts_that_transformers_joins_are_not_missing(tmp_path: Path, name: str) -> None:
    config = AutoConfig.for_model(name, vocab_size=37, **GROUPED_QUERIES, **EXPERTS)
    path = whole(tmp_path, AutoModelForCausalLM.from_config(config))
    refuse_lacking_weights(path, "language model")
    weights = read_weights(tmp_path)
    write_weights(tmp_path, {name: value for name, value in weights.items() if "lm_head" not in name})
    with pytest.raises(PlauditError, match=r"\(lm_head\.weight, "):
        refuse_lacking_weights(path, "language model")


@pytest.mark.parametrize("name", ENCODERS)
def test_classifiers(tmp_path: Path, name: str) -> None:
    path = whole(tmp_path, encoder(name))
    refuse_lacking_weights(path, "classifier")
    weights = read_weights(tmp_path)
    # A head under another name has as many numbers as the one that is missing.
    write_weights(tmp_path, {name.replace("classifier.", "judge."): value for name, value in weights.items()})
    with pytest.raises(PlauditError, match=r"classifier.* missing from the files \(they would be random\)"):
        refuse_lacking_weights(path, "classifier")


def test_known_prefixes_and_tied_embeddings_are_repaired_by_loading(tmp_path: Path) -> None:
    path = whole(tmp_path, tiny_classifier("llama"))
    weights = read_weights(tmp_path)
    for prefix, accepted in (("module.", True), ("unknown.", False)):
        write_weights(tmp_path, {f"{prefix}{name}": value for name, value in weights.items()})
        assert is_accepted(path, "reward model") == accepted
    tied = tiny_classifier("llama")
    tied.config.tie_word_embeddings = True
    path = whole(tmp_path / "tied", tied)
    weights = read_weights(tmp_path / "tied")
    embeddings = weights.pop("model.embed_tokens.weight")
    write_weights(tmp_path / "tied", weights)
    assert not is_accepted(path, "reward model")
    write_weights(tmp_path / "tied", weights | {"lm_head.weight": embeddings})
    assert is_accepted(path, "reward model")


def test_other_shapes(tmp_path: Path) -> None:
    path = whole(tmp_path, tiny_causal_model("llama"))
    write_weights(tmp_path, read_weights(tmp_path) | {"model.norm.weight": torch.ones(5)})
    with pytest.raises(PlauditError, match=r"model\.norm\.weight is \[5\] in the files and \[16\] in the model"):
        refuse_lacking_weights(path, "language model")


def test_the_head_of_a_classifier_that_is_an_adapter(tmp_path: Path) -> None:
    base = whole(tmp_path / "base", tiny_causal_model("llama"))
    folder = tmp_path / "adapter"
    folder.mkdir()
    described: dict[str, Any] = {"peft_type": "LORA", "task_type": "SEQ_CLS", "base_model_name_or_path": base}
    described |= {"r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    lora = {"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": torch.ones(2, 16)}
    for head, complete in (({}, False), ({"base_model.model.score.weight": torch.ones(2, 16)}, True)):
        write_weights(folder, lora | head)
        (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
        if complete:
            refuse_lacking_weights(str(folder), "classifier")
        else:
            with pytest.raises(PlauditError, match="classifier head"):
                refuse_lacking_weights(str(folder), "classifier")
