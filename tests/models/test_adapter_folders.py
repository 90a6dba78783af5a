"""Models on quantized bases are saved as adapters only, and load as they were trained."""

import copy
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from forests import forest
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import FreshModel, LoraConfig, ModelConfig, ModelReward
from plaudit.errors import PlauditError
from plaudit.models.adapters.lora import adapters_off
from plaudit.models.inference import token_log_probabilities
from plaudit.models.loading.models import LoadedModel, load_policy, load_scorer
from plaudit.models.reward_model import RewardModel, ScoreScale, load_reward_model, save_reward_model
from plaudit.models.saving import save_model
from plaudit.models.trunk import unwrapped
from plaudit.rewards.sources import ComposedReward, build_reward
from plaudit.rewards.trained_model import RewardModelSource
from plaudit.rollouts.engines.transformers import TransformersEngine
from plaudit.rollouts.samples import Sample
from plaudit.serving.chat_model import ChatModel
from plaudit.serving.conversation import Conversation
from plaudit.serving.targets import find_target, open_chat_model
from tiny_runs import FRESH, write_tokenizer

CPU = torch.device("cpu")
KINDS = {None: "Linear", "4bit": "Linear4bit", "8bit": "Linear8bitLt"}
HAS_BITSANDBYTES = importlib.util.find_spec("bitsandbytes") is not None
QUANTIZATIONS = [
    None,
    *(
        pytest.param(bits, marks=pytest.mark.skipif(not HAS_BITSANDBYTES, reason="needs bitsandbytes"))
        for bits in ("4bit", "8bit")
    ),
]


def small(trees: list[PromptTree]) -> list[PromptTree]:
    """The tokenizer of the tiny runs has 30 tokens."""
    return [
        PromptTree(tuple(t % 30 for t in tree.prompt), tuple(tuple(t % 30 for t in r) for r in tree.responses))
        for tree in trees
    ]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the folder of a language model whose sizes bitsandbytes takes on a CPU."""
    folder = tmp_path_factory.mktemp("base")
    write_tokenizer(folder / "tokenizer")
    fresh: dict[str, Any] = copy.deepcopy(FRESH)
    fresh["options"] |= {"hidden_size": 64, "intermediate_size": 64, "initializer_range": 0.3}
    loaded = load_policy(ModelConfig(fresh=FreshModel(**fresh), tokenizer=str(folder / "tokenizer")), CPU)
    save_model(loaded.model, loaded.tokenizer, folder / "model")
    return str(folder / "model")


def with_trained_adapter(loaded: LoadedModel, quantization: str | None) -> LoadedModel:
    """Give the adapter and the head weights as after training."""
    if quantization is None:
        unwrapped(loaded.model).is_quantized = True  # saved in the same form, because bitsandbytes may not be installed
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in loaded.model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                parameter.normal_(std=0.2)
    return loaded


def start_of(base: str, quantization: Any) -> ModelConfig:
    return ModelConfig(path=base, quantization=quantization, lora=LoraConfig(rank=4))


def saved_reward_model(base: str, quantization: Any, folder: Path) -> RewardModel:
    """Create a reward model with weights as after training, save it in ``folder`` and return it."""
    loaded = with_trained_adapter(load_scorer(start_of(base, quantization), CPU)[0], quantization)
    model = RewardModel(loaded, ScoreScale(2.0, -0.5))
    save_reward_model(loaded.model, loaded.tokenizer, model.scale, folder)
    return model


def kind_of_weights(model: Any) -> str:
    layer = unwrapped(model).base_model.layers[0].self_attn.q_proj
    return type(layer.base_layer).__name__


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_saved_reward_model_loads(base: str, quantization: Any, tmp_path: Path) -> None:
    trained = saved_reward_model(base, quantization, tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    trees = small(forest())
    expected = trained.scores(trees, 64)
    loaded = load_reward_model(ModelConfig(path=str(tmp_path)), CPU)
    assert kind_of_weights(loaded.loaded.model) == KINDS[quantization]
    torch.testing.assert_close(loaded.scores(trees, 64), expected, rtol=1e-5, atol=1e-5)
    assert loaded.loaded.layout == trained.loaded.layout
    assert not any(parameter.requires_grad for parameter in loaded.loaded.model.parameters())
    with adapters_off(loaded.loaded.model):
        assert float((loaded.scores(trees, 64) - expected).abs().max()) > 0.1, "the adapter changes nothing"


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_it_is_a_reward_source(base: str, quantization: Any, tmp_path: Path) -> None:
    trained = saved_reward_model(base, quantization, tmp_path)
    reward = build_reward([ModelReward(name="judge", path=str(tmp_path))], CPU)
    trees = small(forest())
    samples = [Sample(tree.prompt, response, "", "", ended=True) for tree in trees for response in tree.responses]
    # In 8 bits, which activations count as outliers depends on the whole batch.
    tolerance = 0.05 if quantization == "8bit" else 1e-5
    expected = trained.scores(trees, 64)
    torch.testing.assert_close(reward.score(samples).total, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_a_saved_policy_loads_and_answers(base: str, quantization: Any, tmp_path: Path) -> None:
    loaded = with_trained_adapter(load_policy(start_of(base, quantization), CPU), quantization)
    save_model(loaded.model, loaded.tokenizer, tmp_path / "policy")
    judge = saved_reward_model(base, quantization, tmp_path / "judge")
    trees = small(forest())
    expected = token_log_probabilities(loaded, trees, 1.0, 64)
    again = load_policy(ModelConfig(path=str(tmp_path / "policy")), CPU)
    for mine, its in zip(token_log_probabilities(again, trees, 1.0, 64), expected, strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)
    target = find_target(str(tmp_path / "policy"))
    settings = target.chat_settings(2, 0, True, {"max_new_tokens": 4})
    turn = open_chat_model(target, settings, [str(tmp_path / "judge")], "cpu").answer(Conversation(), "w1 w2")
    before = ComposedReward([RewardModelSource("judge", judge, 64)], [1.0])
    engine = TransformersEngine(loaded)
    expected_turn = ChatModel(loaded, engine, before, settings).answer(Conversation(), "w1 w2")
    assert [found.text for found in turn.candidates] == [wanted.text for wanted in expected_turn.candidates]
    for found, wanted in zip(turn.candidates, expected_turn.candidates, strict=True):
        assert list(found.scores.values()) == pytest.approx(list(wanted.scores.values()), abs=1e-4)


def test_unsupported_uses_of_an_adapter_are_errors(base: str, tmp_path: Path) -> None:
    saved_reward_model(base, None, tmp_path)
    with pytest.raises(PlauditError, match=r"cannot be merged.*with lora: continue, or start from .*model"):
        load_scorer(ModelConfig(path=str(tmp_path), lora=LoraConfig(rank=4)), CPU)
    assert json.loads((tmp_path / "base_model.json").read_text()) == {"quantization": None}
