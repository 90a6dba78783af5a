"""A model is loaded only if every weight comes from its files and every weight in the files is used."""

from pathlib import Path
from typing import Any

import pytest
import torch

from model_folders import read_weights, saved, write_weights
from plaudit.config.schema import ClassifierReward, ModelConfig, ModelReward
from plaudit.errors import PlauditError
from plaudit.models.loading.models import has_reward_head, load_policy, load_scorer
from plaudit.models.reward_model import load_reward_model
from plaudit.rewards.sources import build_reward
from tiny_models import tiny_causal_model, tiny_classifier

CPU = torch.device("cpu")
ARCHITECTURES = ["llama", "gpt2", "gpt_neox", "opt"]
TOKENS = torch.arange(3, 12)[None]


def policy_at(folder: Path) -> Any:
    return load_policy(ModelConfig(path=str(folder)), CPU).model


def scorer_at(folder: Path) -> Any:
    return load_scorer(ModelConfig(path=str(folder)), CPU)[0].model


ROLES = [(tiny_causal_model, policy_at), (tiny_classifier, scorer_at)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("make, load", ROLES)
def test_known_prefixes_are_removed_and_named(
    architecture: str, make: Any, load: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = make(architecture)
    weights = read_weights(saved(model, tmp_path))
    for prefix in ("module.", "base_model.model.", "_orig_mod.module."):
        write_weights(tmp_path, {prefix + name: tensor for name, tensor in weights.items()})
        loaded = load(tmp_path)
        assert f"begin with {prefix}, which was removed from {len(weights)} names" in capsys.readouterr().err
        with torch.no_grad():
            torch.testing.assert_close(loaded(input_ids=TOKENS).logits, model(input_ids=TOKENS).logits)
    loaded.save_pretrained(tmp_path / "saved")
    assert read_weights(tmp_path / "saved").keys() == weights.keys()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("make, load", ROLES)
def test_weights_that_do_not_fit_are_refused(architecture: str, make: Any, load: Any, tmp_path: Path) -> None:
    weights = read_weights(saved(make(architecture), tmp_path))
    named = {f"unknown.{name}": tensor for name, tensor in weights.items()}
    write_weights(tmp_path, named)
    with pytest.raises(PlauditError, match=rf"{tmp_path}: .*missing .*; {len(weights)} \(unknown\.\S+, unknown\.\S+, "):
        load(tmp_path)
    lost = next(name for name in weights if "layers.1." in name or ".h.1." in name)
    write_weights(tmp_path, {name: tensor for name, tensor in weights.items() if name != lost})
    with pytest.raises(PlauditError, match=rf"1 \({lost}\) missing from the files"):
        load(tmp_path)
    write_weights(tmp_path, {**weights, "layers.7.weight": torch.zeros(3)})
    with pytest.raises(PlauditError, match=r"1 \(layers\.7\.weight\) in the files but not in the model"):
        load(tmp_path)
    matrix = next(
        name for name, tensor in weights.items() if tensor.ndim == 2 and ("layers.1." in name or ".h.1." in name)
    )
    write_weights(tmp_path, {**weights, matrix: torch.zeros(5, 7)})
    with pytest.raises(PlauditError, match=rf"{matrix} is \[5, 7\] in the files"):
        load(tmp_path)


def test_a_missing_layer_of_an_untied_head_is_missing(tmp_path: Path) -> None:
    weights = read_weights(saved(tiny_causal_model("llama"), tmp_path))
    write_weights(tmp_path, {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"})
    with pytest.raises(PlauditError, match=r"1 \(lm_head\.weight\) missing"):
        policy_at(tmp_path)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_only_the_head_of_a_reward_model_may_be_missing(architecture: str, tmp_path: Path) -> None:
    """``architectures`` in config.json always says that this is a classifier."""
    weights = read_weights(saved(tiny_classifier(architecture), tmp_path))
    assert load_scorer(ModelConfig(path=str(tmp_path)), CPU)[1]
    assert has_reward_head(str(tmp_path))
    headless = {name: tensor for name, tensor in weights.items() if name != "score.weight"}
    write_weights(tmp_path, headless)
    assert not load_scorer(ModelConfig(path=str(tmp_path)), CPU)[1]
    assert not has_reward_head(str(tmp_path))
    with pytest.raises(PlauditError, match="no trained reward head"):
        load_reward_model(ModelConfig(path=str(tmp_path)), CPU)
    for name in ("v_head.weight", "classifier.weight", "reward_head.weight"):
        write_weights(tmp_path, {**headless, name: weights["score.weight"]})
        assert not has_reward_head(str(tmp_path))
        with pytest.raises(PlauditError, match=rf"called score\.weight; rename {name}"):
            scorer_at(tmp_path)


def test_a_language_model_gets_a_new_head(tmp_path: Path) -> None:
    for architecture in ARCHITECTURES:
        folder = saved(tiny_causal_model(architecture), tmp_path / architecture)
        assert not load_scorer(ModelConfig(path=str(folder)), CPU)[1]


def test_embeddings_that_are_stored_as_the_tied_head(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny_causal_model("llama", tie_word_embeddings=True)
    weights = read_weights(saved(model, tmp_path))
    head = weights.pop("model.embed_tokens.weight")
    write_weights(tmp_path, {**weights, "lm_head.weight": head})
    assert torch.equal(policy_at(tmp_path).model.embed_tokens.weight, head)
    assert "stored as lm_head.weight" not in capsys.readouterr().err
    assert torch.equal(scorer_at(tmp_path).model.embed_tokens.weight, head)
    assert "stored as lm_head.weight" in capsys.readouterr().err
    scorer_at(tmp_path).save_pretrained(tmp_path / "saved")
    assert read_weights(tmp_path / "saved").keys() == {*weights, "model.embed_tokens.weight", "score.weight"}
    configuration = (tmp_path / "config.json").read_text().replace('"tie_word_embeddings": true', '"other": true')
    (tmp_path / "config.json").write_text(configuration)
    with pytest.raises(PlauditError, match=r"1 \(model\.embed_tokens\.weight\) missing"):
        scorer_at(tmp_path)


def test_a_reward_model_is_no_policy_and_an_unread_value_head_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = read_weights(saved(tiny_causal_model("gpt2"), tmp_path))
    write_weights(tmp_path, {**weights, "score.weight": torch.zeros(1, 16)})
    with pytest.raises(PlauditError, match=r"score\.weight\) .* name a language model"):
        policy_at(tmp_path)
    write_weights(tmp_path, {**weights, "v_head.summary.weight": torch.zeros(1, 16)})
    policy_at(tmp_path)
    assert "v_head.summary.weight" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [2, 3])
def test_a_classifier_with_several_labels_is_no_reward_model(labels: int, tmp_path: Path) -> None:
    weights = read_weights(saved(tiny_classifier("llama"), tmp_path))
    write_weights(tmp_path, {**weights, "score.weight": torch.zeros(labels, 16)})
    source = ModelReward(name="judge", path=str(tmp_path))
    with pytest.raises(PlauditError, match=rf"{tmp_path}: this classifier has {labels} labels.*kind: classifier"):
        build_reward([source], CPU)


def test_a_classifier_source_needs_every_weight(tmp_path: Path) -> None:
    weights = read_weights(saved(tiny_classifier("llama"), tmp_path))
    source = ClassifierReward(name="mood", path=str(tmp_path))
    lost = "model.layers.1.mlp.up_proj.weight"
    write_weights(tmp_path, {name: tensor for name, tensor in weights.items() if name != lost})
    with pytest.raises(PlauditError, match=rf"'mood': {tmp_path} has no trained weights for {lost}"):
        build_reward([source], CPU)
    write_weights(tmp_path, {**weights, lost: torch.zeros(2, 2)})
    with pytest.raises(PlauditError, match=rf"'mood': .*{lost} is \[2, 2\]"):
        build_reward([source], CPU)
