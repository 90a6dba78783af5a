"""Policy, value and reward are adapters on one base, and each computes the same as a separate model."""

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from plaudit.batching.batches import Batch
from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.trees import PromptTree
from plaudit.config.load import load_recipe
from plaudit.config.schema import ModelConfig
from plaudit.models.acceleration.forward import hidden_states
from plaudit.models.adapters.lora import adapter_of, with_adapter
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.loading.models import load_policy
from plaudit.models.reward_model import load_reward_model
from plaudit.models.trunk import trunk_of
from plaudit.rewards.sources import build_reward
from plaudit.runner import run
from plaudit.runs.context import StageContext
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import start_session
from plaudit.training.loop import Trainer
from plaudit.training.rl.roles.adapter_reward import AdapterReward, is_adapter_on
from plaudit.training.rl.roles.adapters import AdapterRoles
from plaudit.training.rl.roles.build import build_roles, recompute_activations_of
from plaudit.training.rl.stage import load_rl_task
from tiny_runs import tiny_recipe

CPU = torch.device("cpu")
TREES = [PromptTree((4, 9, 11), ((5, 6, 7, 1), (8, 1))), PromptTree((12,), ((20, 21, 22),))]
LORA = {"rank": 4, "alpha": 8.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``recipe.yaml``, whose reward model was trained as an adapter on SFT's model."""
    folder = tmp_path_factory.mktemp("adapters")
    recipe = tiny_recipe(
        folder,
        reward__model={"path": "stage:sft", "lora": LORA},
        reward__optimizer={"learning_rate": 0.05},
        rl__model={"path": "stage:sft", "lora": LORA},
        rl__weights="adapters",
        rl__value_model=None,
    )
    run(load_recipe(str(recipe)), ["pretrain", "sft", "reward"])
    return folder


def rl_config(folder: Path, *overrides: str) -> Any:
    recipe = load_recipe(str(folder / "recipe.yaml"), overrides)
    return RunDirectory(Path(recipe.output) / recipe.name).resolve(recipe).rl


def moved(model: Any, adapter: str, seed: int) -> None:
    """Give an adapter nonzero weights: a new adapter is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0]):
            if f".{adapter}." in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)


def batch() -> Batch:
    return PACKED.build(TREES, [[0, 1]])


def test_the_adapters_scores_are_those_of_the_merged_model(folder: Path) -> None:
    config = rl_config(folder)
    roles = build_roles(config, CPU, 0)
    assert isinstance(roles, AdapterRoles)
    moved(roles.model, "default", 1)
    path = config.rewards[0].path
    assert is_adapter_on(path, config.model)
    reward = AdapterReward(path, roles)
    merged = load_reward_model(ModelConfig(path=path), CPU).scores(TREES, 1000)
    torch.testing.assert_close(reward.scores(TREES, 1000), merged, atol=1e-5, rtol=1e-5)
    # The adapter matters: without it the same head gives other scores.
    model = load_policy(ModelConfig(path=config.model.path), CPU).model
    states = hidden_states(model, batch(), batch().last_token_index)
    head: Any = reward.module.head
    bare = reward.scale.gain * head(states).squeeze(-1) + reward.scale.bias
    assert (bare - merged).abs().max() > 1e-2


def test_one_base_is_in_memory(folder: Path) -> None:
    config = rl_config(folder)
    roles = build_roles(config, CPU, 0)
    assert isinstance(roles, AdapterRoles)
    reward = AdapterReward(config.rewards[0].path, roles)
    everything = {p.data_ptr(): p for module in (roles.module, reward.module) for p in module.parameters()}
    base = load_policy(ModelConfig(path=config.model.path), CPU).model
    adapter = sum(
        p.numel() for n, p in with_adapter(base, config.model.lora, "CAUSAL_LM").named_parameters() if "lora_" in n
    )
    plain = load_policy(ModelConfig(path=config.model.path), CPU).model.num_parameters()
    assert sum(p.numel() for p in everything.values()) == plain + 3 * adapter + 2 * base.config.hidden_size
    learning = [p for p in roles.module.parameters() if p.requires_grad]
    assert sum(p.numel() for p in learning) == 2 * adapter + base.config.hidden_size


def test_the_reference_is_the_base_to_the_bit(folder: Path) -> None:
    config = rl_config(folder)
    roles = build_roles(config, CPU, 0)
    assert isinstance(roles, AdapterRoles)
    AdapterReward(config.rewards[0].path, roles).scores(TREES, 1000)
    moved(roles.model, "default", 1)
    moved(roles.model, "value", 2)
    base = load_policy(ModelConfig(path=config.model.path), CPU)
    with torch.no_grad():
        expected = PolicyModule(base.model)(batch(), 0.7).statistics.log_probabilities
        policy = roles.policy(batch(), 0.7).statistics.log_probabilities
    assert torch.equal(roles.reference(batch(), 0.7), expected)
    assert (policy - expected).abs().max() > 1e-2


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_equal_those_of_separate_models(folder: Path, recompute: bool) -> None:
    """Also if activations are recomputed in the backward pass, when the right adapter must still be active."""
    config = rl_config(folder)
    roles = build_roles(config, CPU, 0)
    if recompute:
        recompute_activations_of(roles)
    assert isinstance(roles, AdapterRoles)
    assert roles.value_head is not None
    AdapterReward(config.rewards[0].path, roles)
    moved(roles.model, "default", 1)
    moved(roles.model, "value", 2)
    torch.nn.init.normal_(roles.value_head.weight, generator=torch.Generator().manual_seed(3))
    roles.module.train()
    computed: list[Any] = []
    trunk_of(roles.model).layers[0].mlp.register_forward_pre_hook(lambda *call: computed.append(call))
    roles.policy(batch(), 1.0).statistics.log_probabilities.sum().backward()
    with roles.values(batch()) as values:
        assert values is not None
        values.square().sum().backward()
    assert len(computed) == (4 if recompute else 2)
    found = {name: p.grad for name, p in roles.model.named_parameters() if p.grad is not None}
    separate = separate_gradients(config, roles.value_head)
    assert found.keys() == separate.keys()
    assert {".default.", ".value."} == {
        part for part in (".default.", ".value.") if any(part in name for name in found)
    }
    for name, gradient in separate.items():
        assert gradient.abs().max() > 1e-4, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def separate_gradients(config: Any, head: torch.nn.Linear) -> dict[str, Tensor]:
    """Return the gradients of a policy and of a value model that share no weights."""
    gradients: dict[str, Tensor] = {}
    for name, seed in (("default", 1), ("value", 2)):
        base = load_policy(ModelConfig(path=config.model.path), CPU).model
        model = with_adapter(base, config.model.lora, "CAUSAL_LM", name)
        moved(model, name, seed)
        if name == "default":
            PolicyModule(model)(batch()).statistics.log_probabilities.sum().backward()
        else:
            states = hidden_states(model, batch(), batch().predictor_index)
            (states @ head.weight.detach().T).square().sum().backward()
        gradients |= {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    return gradients


def test_the_adapter_is_found_from_the_parameter_name() -> None:
    """Not by a module of the same name: BERT's attention has one that is called value."""
    found = {
        "base.model.layer.0.attention.value.lora_A.default.weight": "default",
        "base.model.layer.0.attention.value.lora_B.value.weight": "value",
        "base.model.embed_tokens.lora_embedding_A.value": "value",
        "base.model.layer.0.attention.value.base_layer.weight": None,
    }
    assert {name: adapter_of(name) for name in found} == found


def test_adapters_on_another_base_are_separate_models(folder: Path, tmp_path: Path) -> None:
    config = rl_config(folder)
    path = config.rewards[0].path
    relative = ModelConfig(path=str(Path(config.model.path) / ".." / "model"))
    assert is_adapter_on(path, relative)
    assert not is_adapter_on(path, ModelConfig(path=str(folder / "runs/tiny/pretrain/model")))
    assert not is_adapter_on(str(folder / "runs/tiny/sft/model"), config.model)
    other = rl_config(folder, "rl.model.path=stage:pretrain")
    recipe = load_recipe(str(folder / "recipe.yaml"), ["rl.model.path=stage:pretrain"])
    session = start_session(recipe, RunDirectory(Path(recipe.output) / recipe.name))
    task = load_rl_task(StageContext(other, session, RunDirectory(tmp_path).stage("rl")))
    assert not any(".reward0." in name for name, _ in task.module.named_parameters())
    torch.testing.assert_close(
        task.iteration.scorer.reward.sources[0].model.scores(TREES, 1000),  # type: ignore[attr-defined]
        build_reward(config.rewards, CPU).sources[0].model.scores(TREES, 1000),  # type: ignore[attr-defined]
    )


def test_a_stage_runs_and_resumes_to_the_bit(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(folder / "recipe.yaml"))
    run(recipe, ["rl"])
    model = folder / "runs/tiny/rl/model"
    expected = load_file(model / "model.safetensors")
    assert sorted(path.name for path in (model / "adapter").iterdir() if path.is_dir()) == []

    class KilledError(Exception):
        pass

    def dies_after_step_3(self: Trainer[Any], step: int, *rest: Any) -> None:
        original(self, step, *rest)
        if step == 3:
            raise KilledError

    original = Trainer.checkpoint
    (folder / "runs/tiny/rl").rename(folder / "whole-rl")
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "checkpoint", dies_after_step_3)
        with pytest.raises(KilledError):
            run(recipe, ["rl"])
    run(recipe, ["rl"])
    found = load_file(model / "model.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    base = load_file(folder / "runs/tiny/sft/model/model.safetensors")
    assert any(not torch.equal(expected[name], tensor) for name, tensor in base.items())
