"""A LoRA folder that peft saved is a model to start from: it is merged into its base."""

import json
import math
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM

from command_line import run_command
from model_folders import read_weights, saved, write_weights
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import LoraConfig, ModelConfig, RlConfig
from plaudit.errors import PlauditError
from plaudit.models.loading.models import load_policy, load_scorer
from plaudit.models.reward_model import RewardModel, ScoreScale, save_reward_model
from plaudit.models.saving import save_model
from plaudit.serving.targets import find_target, open_chat_model
from plaudit.training.rl.roles.build import build_roles
from tiny_models import tiny_causal_model
from tiny_runs import tiny_recipe

CPU = torch.device("cpu")
TREE = PromptTree((4, 9, 11), ((5, 6, 7, 1), (8, 1)))
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


def trained_weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def test_it_is_continued_as_peft_continues_it(adapter: tuple[Path, torch.Tensor], tmp_path: Path) -> None:
    """The same steps of SGD, by peft alone and by what ``lora: continue`` loads, end in the same adapter."""
    folder, expected = adapter
    loaded = load_policy(ModelConfig(path=str(folder), lora=LoraConfig(start="continue")), CPU)
    ours: Any = loaded.model
    torch.testing.assert_close(logits_of(ours), expected, rtol=1e-5, atol=1e-5)
    base = AutoModelForCausalLM.from_pretrained(folder.parent / "base")
    theirs: Any = peft.PeftModel.from_pretrained(base, str(folder), is_trainable=True).eval()
    assert trained_weights(ours).keys() == trained_weights(theirs).keys()
    for model in (ours, theirs):
        optimizer = torch.optim.SGD(trained_weights(model).values(), lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            model(input_ids=TOKENS, labels=TOKENS).loss.backward()
            optimizer.step()
    for (name, mine), its in zip(trained_weights(ours).items(), trained_weights(theirs).values(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5, msg=name)
    assert float((logits_of(theirs) - expected).abs().max()) > 0.01

    save_model(ours, loaded.tokenizer, tmp_path / "saved")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(logits_of(merged), logits_of(theirs), rtol=1e-3, atol=1e-3)
    written = json.loads((tmp_path / "saved/adapter/adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(folder.parent / "base")
    assert (written["r"], sorted(written["target_modules"])) == (2, ["down_proj", "q_proj"])
    again = ModelConfig(path=str(tmp_path / "saved/adapter"), lora=LoraConfig(start="continue"))
    torch.testing.assert_close(logits_of(load_policy(again, CPU).model), logits_of(ours), rtol=1e-4, atol=1e-4)


def test_a_continued_adapter_needs_an_adapter_folder(adapter: tuple[Path, torch.Tensor]) -> None:
    base = adapter[0].parent / "base"
    with pytest.raises(PlauditError, match=rf"{base}: no adapter to continue.*remove lora: continue"):
        load_policy(ModelConfig(path=str(base), lora=LoraConfig(start="continue")), CPU)
    with pytest.raises(ValidationError, match="with start=continue"):
        LoraConfig(start="continue", rank=3)


def test_a_reward_model_continues_the_adapter_with_a_new_head(
    adapter: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    config = ModelConfig(path=str(adapter[0]), lora=LoraConfig(start="continue"))
    loaded, has_head = load_scorer(config, CPU)
    assert not has_head
    assert {"lora_A", "lora_B", "score"} == {
        part for name in trained_weights(loaded.model) for part in ("lora_A", "lora_B", "score") if f".{part}." in name
    }
    with torch.no_grad():
        for name, parameter in trained_weights(loaded.model).items():
            parameter.normal_(std=1.0 if "score" in name else 0.3)
    scores = RewardModel(loaded, ScoreScale()).scores([TREE], 64)
    save_reward_model(loaded.model, loaded.tokenizer, ScoreScale(), tmp_path / "judge")
    again, has_head = load_scorer(ModelConfig(path=str(tmp_path / "judge/adapter"), lora=config.lora), CPU)
    assert has_head
    torch.testing.assert_close(RewardModel(again, ScoreScale()).scores([TREE], 64), scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weights", ["separate", "shared", "adapters"])
def test_the_reference_is_the_model_with_the_adapter_as_it_was_saved(
    adapter: tuple[Path, torch.Tensor], weights: Any
) -> None:
    rl = {"model": {"path": str(adapter[0]), "lora": "continue"}, "weights": weights}
    prompts = {"sources": ["prompts.jsonl"]}
    rewards = [{"name": "judge", "kind": "function", "function": "builtins:len"}]
    roles = build_roles(RlConfig.model_validate(rl | {"prompts": prompts, "rewards": rewards}), CPU, seed=0)
    batch = PACKED.build([TREE], [[0]])
    at_start = roles.policy(batch, 1.0).statistics.log_probabilities.detach()
    torch.testing.assert_close(roles.reference(batch, 1.0), at_start, rtol=1e-5, atol=1e-5)
    policy = {name: weight for name, weight in trained_weights(roles.loaded.model).items() if ".default." in name}
    assert policy
    with torch.no_grad():
        for weight in policy.values():
            weight.add_(0.5)
    torch.testing.assert_close(roles.reference(batch, 1.0), at_start, rtol=1e-5, atol=1e-5)
    assert float((roles.policy(batch, 1.0).statistics.log_probabilities - at_start).abs().max()) > 0.01
    assert trained_weights(roles.loaded.model).keys() >= policy.keys()


def test_stages_continue_an_adapter_from_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SFT writes an adapter, which DPO continues: at its first step, policy and reference are the same model."""
    recipe = tiny_recipe(tmp_path, sft__model={"path": "stage:pretrain", "lora": {"rank": 2}})
    overrides = ["sft.optimizer.learning_rate=0.3", "dpo.model={path: 'stage:sft/model/adapter', lora: continue}"]
    for stage in ("pretrain", "sft", "dpo"):
        code, _, errors = run_command(capfd, monkeypatch, stage, str(recipe), *overrides)
        assert code == 0, errors
    run = tmp_path / "runs/tiny"
    assert f"dpo/model/adapter: an adapter on {run}/pretrain/model" not in errors
    assert f"{run}/sft/model/adapter: an adapter on {run}/pretrain/model, which is trained further" in errors
    first = json.loads((run / "dpo/metrics.jsonl").read_text().splitlines()[0])
    assert first["held_out/loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert sorted(path.name for path in (run / "dpo/model/adapter").glob("adapter_*")) == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    code, _, errors = run_command(capfd, monkeypatch, "sft", str(recipe), "name=b", "sft.model={path: x, lora: go on}")
    assert code == 2
    assert "sft.model.lora.start: expected new or continue" in errors
