"""A saved folder computes what the model in memory computes, and ``generate`` of transformers stops in it."""

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from chat_templates import tokenizer_of
from generating_models import tiny_model, word_tokenizer
from model_folders import saved
from plaudit.config.schema import ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy
from plaudit.models.saving import save_model, saved_weights, set_special_tokens
from plaudit.rollouts.engines.finishing import end_token_ids
from tiny_models import tiny_causal_model

EMBEDDINGS = {"llama": ("embed_tokens", "lm_head"), "gpt2": ("wte", "lm_head"), "opt": ("embed_tokens", "lm_head")}


def adapted(architecture: str, targets: list[str], tied: bool = True) -> Any:
    """Return a model with trained adapters on the modules ``targets``."""
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=targets)
    model = peft.get_peft_model(tiny_model(architecture, tie_word_embeddings=tied), config)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("which", [(0,), (1,), (0, 1)])
@pytest.mark.parametrize("architecture", list(EMBEDDINGS))
def test_adapters_on_embeddings_and_head(architecture: str, which: tuple[int, ...], tied: bool, tmp_path: Path) -> None:
    model = adapted(architecture, [EMBEDDINGS[architecture][number] for number in which], tied)
    tokens = torch.arange(4, 20).reshape(2, 8)
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
    weights = {name: tensor.clone() for name, tensor in saved_weights(model)}
    save_model(model, word_tokenizer(), tmp_path)
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, expected)
        found = AutoModelForCausalLM.from_pretrained(tmp_path)(input_ids=tokens).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    stored = load_file(tmp_path / "model.safetensors")
    assert stored.keys() == weights.keys()
    for name, tensor in stored.items():
        torch.testing.assert_close(weights[name], tensor)


def test_a_model_that_differs_when_it_is_loaded_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "plaudit.models.saving.merged_tensor",
        lambda layer, kind: getattr(layer.get_base_layer(), kind).detach().clone(),
    )
    with pytest.raises(PlauditError, match=rf"^{tmp_path}: the saved model differs from the trained one"):
        save_model(adapted("llama", ["lm_head"]), word_tokenizer(), tmp_path)


def test_saving_draws_no_random_numbers_and_keeps_the_mode(tmp_path: Path) -> None:
    model = tiny_model("gpt2")
    model.train()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    save_model(model, word_tokenizer(), tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert model.transformer.drop.training


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neox"])
def test_generate_of_transformers_stops_at_the_end_token_of_the_recipe(architecture: str, tmp_path: Path) -> None:
    base = saved(tiny_causal_model(architecture), tmp_path / "base")
    prompt = torch.arange(5, 10)[None]
    settings: dict[str, Any] = {"do_sample": False, "max_new_tokens": 20, "attention_mask": torch.ones_like(prompt)}
    answer = AutoModelForCausalLM.from_pretrained(base).generate(prompt, **settings)[0, 5:].tolist()
    end = next(token for token in answer[2:] if token not in (0, 1, 2))
    config = ModelConfig(path=str(base), eos_token=f"w{end}", pad_token="w4")
    loaded = load_policy(config, torch.device("cpu"))
    save_model(loaded.model, loaded.tokenizer, tmp_path / "saved")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert again.generate(prompt, **settings)[0, 5:].tolist() == answer[: answer.index(end) + 1]
    assert AutoTokenizer.from_pretrained(tmp_path / "saved").eos_token == f"w{end}"
    for file in ("config.json", "generation_config.json"):
        content = json.loads((tmp_path / "saved" / file).read_text())
        assert (content["eos_token_id"], content["pad_token_id"], content["bos_token_id"]) == (end, 4, 0)


def test_several_end_tokens_are_kept(tmp_path: Path) -> None:
    model = tiny_model("llama")
    model.generation_config.eos_token_id = [3, 7]
    save_model(model, word_tokenizer(), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == [3, 7]
    model.generation_config.eos_token_id = [8, 7]
    save_model(model, word_tokenizer(), tmp_path)
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 3


def test_contradictory_generation_settings_do_not_end_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_model("llama")
    model.generation_config.do_sample = False
    model.generation_config.temperature = 0.5
    save_model(model, word_tokenizer(), tmp_path)
    assert "only special tokens are saved" in capsys.readouterr().err
    assert json.loads((tmp_path / "generation_config.json").read_text())["eos_token_id"] == 3


def test_generation_also_ends_at_the_end_of_a_turn() -> None:
    model, tokenizer = tiny_causal_model("llama"), tokenizer_of("chatml")
    set_special_tokens(model, tokenizer)
    end, end_of_turn = tokenizer.convert_tokens_to_ids(["<|endoftext|>", "<|im_end|>"])
    assert model.generation_config.eos_token_id == [end, end_of_turn]
    assert model.config.eos_token_id == end
    assert end_token_ids(model, tokenizer) == {end, end_of_turn}
