"""Logits that change after the last matrix product: soft caps, scales, and unknown changes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from forests import PACKABLE, forest, in_tree_order, layouts, plain_log_probabilities
from plaudit.config.schema import GenerationConfig, ModelConfig
from plaudit.errors import PlauditError
from plaudit.models.acceleration.install import install
from plaudit.models.heads.output_head import OutputHead, head_is_known
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.inference import token_log_probabilities
from plaudit.models.loading.models import LoadedModel, load_policy
from plaudit.rewards.grouping import samples_to_trees
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Request
from tiny_models import tiny_causal_model
from tiny_runs import write_tokenizer

CHANGED = ("gemma2", "cohere", "granite")


@pytest.mark.parametrize("architecture", CHANGED)
def test_log_probabilities_and_gradients_equal_plain_transformers(architecture: str) -> None:
    model = tiny_causal_model(architecture, dtype=torch.float64)
    trees = forest()
    expected = torch.cat(plain_log_probabilities(model, trees))
    weights = torch.linspace(-1, 1, len(expected), dtype=torch.float64)
    expected_gradients = torch.autograd.grad((weights * expected).sum(), list(model.parameters()))
    layout = install(model).layout
    assert layout.name == ("padded" if architecture == "gemma2" else "packed")
    for name in ("one row", "padded") if layout.name == "packed" else ("padded",):
        [batch] = layouts(trees)[name]
        found = torch.cat(in_tree_order(batch, PolicyModule(model)(batch).statistics.log_probabilities))
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
        gradients = torch.autograd.grad((weights * found).sum(), list(model.parameters()))
        for gradient, wanted in zip(gradients, expected_gradients, strict=True):
            torch.testing.assert_close(gradient, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", CHANGED)
def test_logits_are_not_only_the_matrix_product(architecture: str) -> None:
    """Otherwise the other tests would show nothing."""
    model = tiny_causal_model(architecture)
    states = model.base_model(torch.arange(3, 11)[None]).last_hidden_state[0]
    difference = model.get_output_embeddings()(states).log_softmax(-1) - OutputHead.of(model)(states).log_softmax(-1)
    assert float(difference.abs().max()) > 0.5


@pytest.mark.parametrize("architecture", CHANGED)
def test_the_engine_samples_from_what_training_computes(architecture: str, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    model = tiny_causal_model(architecture)
    tokenizer = load_tokenizer_of(tmp_path)
    loaded = LoadedModel(model, tokenizer, install(model, generates=True))
    requests = [Request((3 + number, 5, 7 + number), "", seed=number) for number in range(6)]
    settings = GenerationConfig(max_new_tokens=12, temperature=0.7)
    samples = TransformersEngine(loaded).generate(requests, settings)
    computed = token_log_probabilities(loaded, samples_to_trees(samples, 1), temperature=0.7, token_budget=64)
    for sample, log_probabilities in zip(samples, computed, strict=True):
        assert sample.log_probabilities == pytest.approx(log_probabilities.tolist(), abs=1e-5)


def load_tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


# What is refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", [*PACKABLE, "bloom", "mistral", *CHANGED])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_heads_are_recognized(architecture: str, dtype: torch.dtype) -> None:
    assert head_is_known(tiny_causal_model(architecture, dtype=dtype))


@pytest.mark.parametrize("change", ["cap", "scale", "bias"])
@pytest.mark.parametrize("size", [1.0, 0.01])
def test_unknown_changes_are_noticed_even_where_logits_are_small(change: str, size: float) -> None:
    model = tiny_causal_model("llama")
    model.get_output_embeddings().weight.data *= size
    plain = model.forward
    changes = {
        "cap": lambda logits: 30.0 * torch.tanh(logits / 30.0),
        "scale": lambda logits: 1.1 * logits,
        "bias": lambda logits: logits + 5.0 * (torch.arange(logits.shape[-1]) == 7),
    }

    def changed(*arguments: Any, **options: Any) -> Any:
        output = plain(*arguments, **options)
        output.logits = changes[change](output.logits)
        return output

    model.forward = changed
    assert not head_is_known(model)


def test_an_unknown_head_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tokenizer(tmp_path / "tokenizer")
    options = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    fresh = {"architecture": "granite", "options": options | {"logits_scaling": 3.0}}
    config = ModelConfig.model_validate({"fresh": fresh, "tokenizer": str(tmp_path / "tokenizer")})
    load_policy(config, torch.device("cpu"))
    monkeypatch.setattr(OutputHead, "of", lambda model: OutputHead(model.get_output_embeddings()))
    with pytest.raises(PlauditError, match=r"^model\.fresh: .*logits.*choose another model"):
        load_policy(config, torch.device("cpu"))


def test_weights_of_zero_are_no_error() -> None:
    model = tiny_causal_model("llama")
    with torch.no_grad():
        model.lm_head.weight.zero_()
    assert head_is_known(model)
