"""Traps 13, 14 and 17 to 19: the KL controller, the KL's gradient, groups, and whitening over all processes.

Every test runs ``check`` on the real code, where it must pass, and on the bug, where it must fail.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from plaudit.algorithms import catalogue, estimators
from plaudit.algorithms.advantages import group_centered, group_deviation, grpo, rloo
from plaudit.algorithms.catalogue import ADVANTAGES, POLICY_LOSSES
from plaudit.algorithms.kl import ESTIMATORS, sequence_kl
from plaudit.algorithms.masking import whiten
from plaudit.batching.layouts.padded import PADDED
from plaudit.batching.ragged import rows_from
from plaudit.batching.trees import PromptTree
from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.models.heads.policy import PolicyModule
from plaudit.rewards.sources import ComposedScores
from plaudit.training.losses import load_loss
from plaudit.training.metric_sums import MetricSums
from plaudit.training.rl import iteration, metrics, objectives
from plaudit.training.rl.experience import Experience, ResponseRows, numbered
from plaudit.training.rl.objectives import MicroBatch, StepUnits, policy_objective
from rl_runs import load_fitting
from tiny_models import tiny_causal_model
from trap_world import close, collected, in_two_processes, step_gradients, trainer

ROLLOUTS = ["rl.prompts_per_iteration=7", "rl.minibatches=1", "rl.generation={max_new_tokens: 10, temperature: 1.4}"]
GROUPS = [*ROLLOUTS, "rl.responses_per_prompt=3", "rl.kl={coefficient: 0}"]


# 13 -------------------------------------------------------------------------------------------------------------------


def test_trap_13_the_controller_is_fed_the_kl_of_whole_sequences(folder: Path, monkeypatch: Any) -> None:
    """The target is in nats per response, so the controller needs the KL of whole responses.

    Given a mean over tokens, the controller sees too small a KL and lowers the coefficient. trlx used the KL per token
    until April 2023.
    """
    target = 2.0

    def check() -> None:
        task = collected(folder, *ROLLOUTS, f"rl.kl={{coefficient: 0.1, target: {target}, horizon: 100}}")
        experience, mask = task.experience, task.experience.mask
        total = float(((experience.old_log_probabilities - experience.rows.reference) * mask).sum())
        kl, per_token = total / len(mask), total / int(mask.sum())
        assert per_token < target < kl
        task.end_step(task.steps_per_iteration, MetricSums())
        error = max(-0.2, min(0.2, kl / target - 1))
        assert task.iteration.controller.coefficient == pytest.approx(0.1 * (1 + error * 7 / 100), abs=1e-9)

    check()
    monkeypatch.setattr(
        metrics, "sequence_kl", lambda kl, mask: sequence_kl(kl, mask).sum() / mask.sum() * torch.ones(len(mask))
    )
    with pytest.raises(AssertionError):
        check()


# 14 -------------------------------------------------------------------------------------------------------------------

TOKENS, END = 5, 1
RESPONSES = [(END,)] + [(a, b) for a in range(TOKENS) if a != END for b in range(TOKENS)]
"""Every response of at most two tokens."""


def policy_of_few_tokens(seed: int) -> Any:
    """Return a model in float64 whose responses can all be enumerated; the other tokens have no probability."""
    model = tiny_causal_model("llama", seed, torch.float64)
    model.lm_head.weight.data = model.lm_head.weight.data[:TOKENS]
    model.lm_head.out_features = TOKENS
    return model


def kl_differentiated_as_it_stands(
    log_probs: Tensor, old: Tensor, reference: Tensor, mask: Tensor, estimator: str
) -> Tensor:
    """The bug: the estimate of the KL's value is differentiated, token by token."""
    return ESTIMATORS[estimator](log_probs, reference) * mask


@pytest.mark.parametrize("estimator", ["k1", "k3"])
def test_trap_14_the_gradient_of_kl_in_the_loss(folder: Path, estimator: str, monkeypatch: Any) -> None:
    """A right estimate of the KL has a wrong gradient.

    The gradient of k1 is zero on average, that of k3 belongs to the other direction, and both miss the effect of a
    token on later ones (Tang & Munos 2025). GRPO's loss (Shao et al. 2024, equations 3 and 4) differentiates k3
    directly, and so does TRL's GRPO.
    """
    policy, other = policy_of_few_tokens(0), policy_of_few_tokens(1)
    (example,) = numbered([PromptTree((0, 3, 2), tuple(RESPONSES))])
    batch = PADDED.build([example.tree], [0])
    option = f"rl.kl={{placement: loss, estimator: {estimator}, coefficient: 1}}"
    config = load_recipe(str(folder / "recipe.yaml"), [option, "rl.aggregation=sequence_sum"]).rl
    assert config is not None

    def rows_of(model: Any) -> Tensor:
        return rows_from(PolicyModule(model)(batch).statistics.log_probabilities.split(batch.lengths.tolist()))

    def exact() -> list[Tensor]:
        log_probabilities = rows_of(policy).sum(1)
        assert float(log_probabilities.exp().sum().detach()) == pytest.approx(1.0, abs=1e-12)
        kl = (log_probabilities.exp() * (log_probabilities - rows_of(other).sum(1).detach())).sum()
        return list(torch.autograd.grad(kl, list(policy.parameters())))

    def found() -> list[Tensor]:
        """The expectation of the real loss's gradient: every response, weighed by its probability."""
        old, reference = rows_of(policy).detach(), rows_of(other).detach()
        drawn = (old.sum(1, keepdim=True).exp() * len(RESPONSES)).expand_as(old)
        nothing = torch.zeros_like(old)
        everyone = torch.ones(len(RESPONSES), dtype=torch.bool)
        rows = ResponseRows(old, reference, drawn, nothing, nothing, nothing, nothing[:, 0], everyone)
        experience = Experience([example], batch.lengths, rows, old)
        part = MicroBatch.of(batch, torch.tensor(example.target), experience, StepUnits.of([example], experience), old)
        loss = policy_objective(
            config, part, PolicyModule(policy)(batch), 1.0, load_loss(POLICY_LOSSES["ppo"], "")
        ).loss
        return list(torch.autograd.grad(loss, list(policy.parameters())))

    def check() -> None:
        for mine, true in zip(found(), exact(), strict=True):
            close(mine, true, 1e-6)

    check()
    monkeypatch.setattr(objectives, "kl_loss", kl_differentiated_as_it_stands)
    with pytest.raises(AssertionError):
        check()


# 17 -------------------------------------------------------------------------------------------------------------------


def textbook_grpo(scores: Tensor, group_size: int, epsilon: float = 1e-6) -> Tensor:
    """The bug: mean and standard deviation as in the paper, without handling groups of one or equal scores."""
    groups = scores.reshape(-1, group_size)
    centered = groups - groups.mean(1, keepdim=True)
    deviation = (centered.square().sum(1, keepdim=True) / (group_size - 1 or torch.nan)).sqrt()
    return (centered / (deviation + epsilon)).flatten()


def test_trap_17_a_group_of_one_is_refused(folder: Path, monkeypatch: Any) -> None:
    """A response compared only with itself has the advantage 0 / 0: NaN, or a run that learns nothing."""
    scores = torch.tensor([1.0, 2.0, 3.0])

    def refuses(attempt: Callable[[], Any], fault: type[Exception]) -> bool:
        try:
            attempt()
        except fault as refusal:
            return "at least 2" in str(refusal)
        return False

    def check_recipe() -> None:
        single = "rl.responses_per_prompt=1"
        settings = [f"rl.advantages={name}" for name in ("rloo", "grpo", "dr_grpo", "reinforce++_baseline")]
        for setting in (*settings, "rl.objective=online_dpo", "rl.objective=best_of_n", "rl.dynamic_sampling=1"):
            assert refuses(partial(load_fitting, folder / "recipe.yaml", [single, setting]), PlauditError), setting

    def check_equation(advantages: Callable[[Tensor, int], Tensor]) -> None:
        assert refuses(lambda: advantages(scores, 1), ValueError)

    check_recipe()
    for equation in (rloo, group_centered, group_deviation, lambda scores, size: grpo(scores, size, 1e-6)):
        check_equation(equation)
    with pytest.raises(AssertionError):
        check_equation(textbook_grpo)
    careless = {name: replace(entry, compares=False) for name, entry in ADVANTAGES.items()}
    monkeypatch.setattr(catalogue, "ADVANTAGES", careless)
    with pytest.raises(AssertionError):
        check_recipe()


# 18 -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("score, epsilon", [(1000.1, 1e-6), (0.0, 0.0)])
def test_trap_18_groups_without_spread_have_no_advantage(
    folder: Path, score: float, epsilon: float, monkeypatch: Any
) -> None:
    """Equal scores give no advantage: neither NaN nor rounding errors divided by each other.

    A float32 mean of equal scores may differ from them in the last bit; divided by a deviation of that size, this is a
    full advantage.
    """
    monkeypatch.setattr(estimators, "GROUP_EPSILON", epsilon)

    def check() -> None:
        made = trainer(folder, *GROUPS, "rl.advantages=grpo")
        made.task.iteration.scorer.reward.score = lambda samples: ComposedScores(
            equal := torch.full((len(samples),), score), {"": equal}
        )
        trees = made.task.begin_step(1)
        assert torch.equal(made.task.experience.rows.advantages, torch.zeros(made.task.experience.mask.shape))
        gradients, numbers = step_gradients(made, trees)
        assert numbers["policy_loss"] == 0.0
        assert not any(gradient.any() for gradient in gradients.values())

    check()
    # Other terms on the scale of the scores, such as a correction of the KL, must not be divided by zero.
    equal, mask = torch.full((6, 4), score), torch.ones(6, 4, dtype=torch.bool)
    found = estimators.grpo_estimate(estimators.AdvantageInputs(equal, equal, mask, 3, 1.0, 1.0))
    assert not (0.01 / found.scale).any()
    monkeypatch.setattr(estimators, "grpo", textbook_grpo)
    with pytest.raises(AssertionError):
        check()


# 19 -------------------------------------------------------------------------------------------------------------------


def whitened_by_each_process(values: Tensor, mask: Tensor) -> Tensor:
    """The bug: mean and variance of a process's own shard of the rollouts."""
    whitened = torch.zeros_like(values)
    for rank in range(2):
        whitened[rank::2] = whiten(values[rank::2], mask[rank::2])
    return whitened


def test_trap_19_whitening_is_over_all_processes(folder: Path, monkeypatch: Any) -> None:
    """Mean and variance are those of all rollouts; otherwise more processes learn differently.

    TRL's PPO whitens the advantages of each process separately.
    """

    def advantages() -> Any:
        return collected(folder, *ROLLOUTS).experience.rows.advantages.tolist()

    alone = advantages()

    def check() -> None:
        found = in_two_processes(advantages, folder / "rendezvous")
        close(torch.tensor(found), torch.tensor(alone))

    check()
    monkeypatch.setattr(iteration, "whiten", whitened_by_each_process)
    with pytest.raises(AssertionError):
        check()
