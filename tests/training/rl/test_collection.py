"""The numbers of an RL iteration against an independent computation: plain transformers, float64, loops by hand."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from plaudit.batching.layouts.packed import PACKED
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import ModelConfig
from plaudit.models.reward_model import load_reward_model, remaining_bias
from plaudit.training.rl.experience import Experience
from rl_runs import perturb, rl_metrics, trainer

COEFFICIENT, TEMPERATURE, GAMMA, LAMBDA = 0.3, 0.8, 0.95, 0.9
SETTINGS = [
    f"rl.kl={{coefficient: {COEFFICIENT}}}",
    f"rl.generation.temperature={TEMPERATURE}",
    f"rl.gamma={GAMMA}",
    f"rl.gae_lambda={LAMBDA}",
    "rl.scale_rewards=false",
    "rl.minibatches=1",
    "rl.prompts_per_iteration=4",
    "rl.value_coefficient=1.0",
]


def log_probabilities(model: Any, prompt: tuple[int, ...], response: tuple[int, ...]) -> Tensor:
    ids = torch.tensor([prompt + response])
    logits: Tensor = model(ids).logits[0, len(prompt) - 1 : -1] / TEMPERATURE
    return logits.log_softmax(-1)[range(len(response)), list(response)]


def test_an_iteration_by_hand(folder: Path) -> None:
    made = trainer(folder, *SETTINGS)
    task: Any = made.task
    policy = task.roles.loaded.model
    perturb(policy)
    trees = task.begin_step(1)
    experience, metrics = task.experience, task.metrics
    runs = folder / "runs/tiny"
    exact = AutoModelForCausalLM.from_pretrained(runs / "sft/model").double().eval()
    reference = AutoModelForCausalLM.from_pretrained(runs / "sft/model").double().eval()
    exact.load_state_dict({name: tensor.double() for name, tensor in policy.state_dict().items()})
    scorer = AutoModelForSequenceClassification.from_pretrained(runs / "reward/model").double().eval()
    bias = remaining_bias(str(runs / "reward/model"))
    assert bias is not None
    rows = [(tree.prompt, tree.responses[0]) for tree in experience.trees]
    kls, scores, advantages, news = [], [], [], []
    for number, (prompt, response) in enumerate(rows):
        new = log_probabilities(exact, prompt, response)
        old, its = new.detach(), log_probabilities(reference, prompt, response).detach()
        with torch.no_grad():
            states = scorer.model(torch.tensor([prompt + response])).last_hidden_state[0]
        raw = (scorer.score(states).squeeze(-1).detach() + bias).tolist()
        values, score = raw[len(prompt) - 1 : -1], raw[-1]
        rewards = [-COEFFICIENT * float(difference) for difference in old - its]
        rewards[-1] += score
        own: list[float] = []
        advantage, following = 0.0, 0.0
        for reward, value in zip(reversed(rewards), reversed(values), strict=True):
            advantage = reward + GAMMA * following - value + GAMMA * LAMBDA * advantage
            following = value
            own.insert(0, advantage)
        returns = [one + value for one, value in zip(own, values, strict=True)]
        length = len(response)
        close(experience.old_log_probabilities[number, :length], old)
        close(experience.rows.values[number, :length], values)
        close(experience.rows.returns[number, :length], returns)
        assert not experience.rows.returns[number, length:].any()
        kls.append(float((old - its).sum()))
        scores.append(score)
        advantages.append(own)
        news.append(new)
    flat = [one for own in advantages for one in own]
    mean = sum(flat) / len(flat)
    deviation = math.sqrt(sum((one - mean) ** 2 for one in flat) / len(flat))
    whitened = torch.tensor([(one - mean) / deviation for one in flat], dtype=torch.float64)
    close(experience.rows.advantages[experience.mask], whitened, tolerance=2e-3)  # n or n - 1 in the variance
    assert metrics["kl"] == pytest.approx(sum(kls) / 4, abs=1e-4)
    assert abs(metrics["kl"]) > 0.1
    assert metrics["reward/mean"] == pytest.approx(sum(scores) / 4, abs=1e-4)
    assert metrics["rollout_gap"] < 1e-4
    # At ratio 1 the loss is minus the mean advantage, and its gradient that of -mean(A log pi).
    sums = made.gradients.accumulate(trees)
    ours = experience.rows.advantages[experience.mask].double()
    means = sums.means()
    assert means["policy_loss"] == pytest.approx(-float(ours.mean()), abs=1e-5)
    assert means["ratio/max"] == pytest.approx(1.0, abs=1e-5)
    (-(ours * torch.cat(news)).sum() / len(ours)).backward()
    for name, parameter in exact.named_parameters():
        found = dict(policy.named_parameters())[name].grad
        torch.testing.assert_close(found.double(), parameter.grad, rtol=1e-3, atol=1e-5, msg=name)


def close(found: Tensor, expected: Any, tolerance: float = 1e-4) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance)


def test_each_epoch_visits_every_tree_once(folder: Path) -> None:
    task: Any = trainer(folder, "rl.prompts_per_iteration=7", "rl.minibatches=3").task
    task.begin_step(1)
    everything = sorted(example.target.start for example in task.experience.examples)
    assert everything == list(range(7))
    orders = []
    minibatches_of_iteration = list(task.iteration.minibatches(task.experience, 1))
    assert len(minibatches_of_iteration) == 6
    for epoch in range(2):
        minibatches = minibatches_of_iteration[3 * epoch : 3 * epoch + 3]
        parts = [[example.target.start for example in minibatch] for minibatch in minibatches]
        assert sorted(len(part) for part in parts) == [2, 2, 3]
        orders.append([number for part in parts for number in part])
        assert sorted(orders[-1]) == everything
    assert orders[0] != orders[1]


def test_experience_survives_as_tensors(folder: Path) -> None:
    task: Any = trainer(folder, "rl.responses_per_prompt=2").task
    task.begin_step(1)
    again = Experience.from_tensors(task.experience.to_tensors())
    assert again.examples == task.experience.examples
    for name, tensor in task.experience.to_tensors().items():
        assert torch.equal(again.to_tensors()[name], tensor), name


@pytest.mark.parametrize("pack_length", [8, 64, 4096])
def test_without_learning_the_ratio_is_1(folder: Path, pack_length: int) -> None:
    """Collection and training pack the trees differently: only float32 rounding differs."""
    options = ["rl.optimizer.learning_rate=0", "rl.minibatches=2", f"rl.pack_length={pack_length}"]
    lines = rl_metrics(folder, f"still-{pack_length}", *options)
    assert len(lines) == 2
    for line in lines:
        assert line["ratio/max"] == pytest.approx(1.0, abs=2e-6)
        assert line["approximate_kl"] < 1e-10
        assert line["clip_fraction"] == 0.0
        assert line["kl"] == pytest.approx(0.0, abs=1e-5)


def test_the_kl_budget_ends_the_stage(folder: Path) -> None:
    options = ["rl.kl={coefficient: 0, budget: 0.05}", "rl.iterations=20", "rl.optimizer.learning_rate=0.03"]
    lines = rl_metrics(folder, "budget", *options)
    assert 1 < len(lines) < 20
    assert lines[-1]["kl"] > 0.05
    assert all(line["kl"] <= 0.05 for line in lines[:-1])


@pytest.mark.parametrize("estimator", ["grpo", "rloo"])
def test_group_estimators_need_no_values(folder: Path, estimator: str) -> None:
    group = [f"rl.advantages={estimator}", "rl.responses_per_prompt=3", "rl.kl={coefficient: 0}"]
    task: Any = trainer(folder, *group, "rl.scale_rewards=false").task
    task.begin_step(1)
    first = task.experience.rows.advantages[:, 0].reshape(-1, 3)
    assert first.sum(1).abs().max() < 1e-5
    assert first.abs().max() > 0.1
    assert torch.equal(task.experience.rows.advantages, first.reshape(-1, 1) * task.experience.mask)
    assert not any(name.startswith("value") for name, _ in task.module.named_parameters())
    lines = rl_metrics(folder, estimator, *group)
    assert [line["step"] for line in lines] == [1, 2]
    assert all("value_loss" not in line and math.isfinite(line["policy_loss"]) for line in lines)


@pytest.mark.parametrize("lora", ["null", "{rank: 2}"])
def test_a_value_model_starts_as_the_reward_model(folder: Path, lora: str) -> None:
    """The value before a token is the reward model's score of the text up to there."""
    task: Any = trainer(folder, f"rl.model={{path: 'stage:sft', lora: {lora}}}").task
    prompt = task.prompts.rows[0].tree.prompt
    with torch.no_grad(), task.roles.values(PACKED.build([PromptTree(prompt, ((5, 6, 7), (8,)))], [[0]])) as found:
        values = found
    prefixes = [prompt, (*prompt, 5), (*prompt, 5, 6), prompt]
    judge = load_reward_model(ModelConfig(path=str(folder / "runs/tiny/reward/model")), torch.device("cpu"))
    expected = judge.scores([PromptTree(prefix[:-1], (prefix[-1:],)) for prefix in prefixes], 100)
    torch.testing.assert_close(values, expected, atol=1e-5, rtol=1e-5)
    assert values.std() > 1e-3


def test_a_shared_value_head_starts_at_zero(folder: Path) -> None:
    made = trainer(folder, "rl.weights=shared", "rl.value_model=null")
    task: Any = made.task
    task.begin_step(1)
    assert not task.experience.rows.values.any()
    made.gradients.accumulate(task.begin_step(1))
    head = dict(task.module.named_parameters())["policy.value_head.weight"]
    assert head.grad is not None
    assert head.grad.abs().max() > 1e-4
