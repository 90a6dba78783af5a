"""The algorithms of the catalogue in a whole iteration, compared with independently computed numbers."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from plaudit.algorithms.catalogue import ADVANTAGES, POLICY_LOSSES
from plaudit.batching.ragged import to_rows
from plaudit.rollouts.samples import Request
from plaudit.training.rl.objectives import aggregation_of, clip_of
from rl_runs import load_fitting, perturb, rl_metrics, trainer

GROUPS = ["rl.responses_per_prompt=3", "rl.scale_rewards=false", "rl.minibatches=1", "rl.epochs=2"]


def step_loss(made: Any) -> tuple[float, Any]:
    """The loss of the first step's only micro-batch, with a policy that differs from its reference and its past."""
    task = made.task
    perturb(task.roles.loaded.model)
    trees = [example.tree for example in task.begin_step(1)]
    perturb(task.roles.loaded.model)
    (batch,) = [build() for build in _batches(task, trees)]
    losses = task.losses(batch, numbers_in(task, batch))
    return sum(float(outputs.loss.detach()) for outputs in losses), batch


def numbers_in(task: Any, batch: Any) -> list[range]:
    """The indices of the responses of each of the batch's trees."""
    numbers = {id(example.tree): example.target for example in task.experience.examples}
    return [numbers[id(tree)] for tree in batch.trees]


def numbers_of(task: Any, batch: Any) -> Tensor:
    """The indices of all responses in the batch, [R]."""
    return torch.tensor([number for own in numbers_in(task, batch) for number in own])


def _batches(task: Any, trees: Any) -> Any:
    from plaudit.batching.batches import make_batches

    return make_batches(trees, task.layout, 8192, 512)


def log_probabilities_of(task: Any, batch: Any) -> Tensor:
    """The policy's log-probabilities of a batch's responses, [R, T]."""
    with torch.no_grad():
        output = task.roles.policy(batch, task.config.generation.temperature)
    return to_rows(output.statistics.log_probabilities, batch.lengths).double()


def ppo_by_hand(task: Any, batch: Any) -> Tensor:
    """PPO's loss of every token of a batch's responses with ratios clipped to 0.8 … 1.2, [R, T]."""
    rows, numbers = task.experience.rows, numbers_of(task, batch)
    ratio = (log_probabilities_of(task, batch) - task.experience.old_log_probabilities[numbers]).exp()
    advantages = rows.advantages[numbers].double()
    return -torch.minimum(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)


def test_every_entry_has_an_equation_and_a_paper() -> None:
    for entry in [*ADVANTAGES.values(), *POLICY_LOSSES.values()]:
        assert entry.equation
        assert "arXiv:" in entry.paper or "doi:" in entry.paper


def test_defaults_are_the_papers_and_can_be_changed(folder: Path) -> None:
    def config(*overrides: str) -> Any:
        return load_fitting(folder / "recipe.yaml", overrides).rl

    ppo, gspo = config(), config("rl.policy_loss=gspo")
    assert (clip_of(ppo).low, clip_of(ppo).high, aggregation_of(ppo)) == (0.2, 0.2, "token_mean")
    assert (clip_of(gspo).low, clip_of(gspo).high, aggregation_of(gspo)) == (3e-4, 4e-4, "sequence_mean")
    higher = config("rl.clip_high=0.28", "rl.aggregation=sequence_sum")
    assert (clip_of(higher).low, clip_of(higher).high, aggregation_of(higher)) == (0.2, 0.28, "sequence_sum")
    both = config("rl.clip=0.1", "rl.dual_clip=3.0")
    assert (clip_of(both).low, clip_of(both).high, clip_of(both).dual) == (0.1, 0.1, 3.0)


def test_kl_in_the_loss_stays_out_of_the_rewards(folder: Path) -> None:
    placed = ["rl.kl={coefficient: 0.5, placement: loss, estimator: k3}", "rl.advantages=rloo"]
    made = trainer(folder, *GROUPS, *placed)
    loss, batch = step_loss(made)
    task: Any = made.task
    rows = task.experience.rows
    # The advantages are those of the scores only.
    scores = rows.scores.reshape(-1, 3)
    by_hand = (scores - (scores.sum(1, keepdim=True) - scores) / 2).reshape(-1, 1)
    torch.testing.assert_close(rows.advantages, by_hand * task.experience.mask, atol=1e-5, rtol=1e-5)
    # The loss contains the mean over tokens of exp(ref - log pi) - 1 + log pi - ref.
    numbers = numbers_of(task, batch)
    mask = task.experience.mask[numbers]
    policy = ppo_by_hand(task, batch)[mask].mean()
    difference = log_probabilities_of(task, batch) - rows.reference[numbers]
    k3 = ((-difference).exp() - 1 + difference)[mask].mean()
    assert k3 > 0.01
    assert loss == pytest.approx(float(policy + 0.5 * k3), abs=1e-5)


def test_online_dpo_by_hand(folder: Path) -> None:
    made = trainer(folder, *GROUPS, "rl.objective=online_dpo", "rl.kl={coefficient: 0.2}")
    loss, batch = step_loss(made)
    task: Any = made.task
    numbers = numbers_of(task, batch)
    rows, mask = task.experience.rows, task.experience.mask[numbers]
    log_ratios = ((log_probabilities_of(task, batch) - rows.reference[numbers]) * mask).sum(1).reshape(-1, 3)
    scores = rows.scores[numbers].reshape(-1, 3).double()
    expected = 0.0
    for ratios, own in zip(log_ratios.tolist(), scores.tolist(), strict=True):
        for i, j in ((0, 1), (0, 2), (1, 2)):
            preferred, z = 1 / (1 + math.exp(own[j] - own[i])), 0.2 * (ratios[i] - ratios[j])
            expected += preferred * math.log1p(math.exp(-z)) + (1 - preferred) * math.log1p(math.exp(z))
    assert loss == pytest.approx(expected / 3 / len(log_ratios), abs=1e-5)
    assert not any(name.startswith("value") for name, _ in task.module.named_parameters())


def test_best_of_n_trains_only_on_the_best(folder: Path) -> None:
    made = trainer(folder, *GROUPS, "rl.objective=best_of_n")
    loss, batch = step_loss(made)
    task: Any = made.task
    numbers = numbers_of(task, batch)
    totals = (log_probabilities_of(task, batch) * task.experience.mask[numbers]).sum(1).reshape(-1, 3)
    best = task.experience.rows.scores[numbers].reshape(-1, 3).argmax(1, keepdim=True)
    assert loss == pytest.approx(-float(totals.gather(1, best).mean()), abs=1e-5)


@pytest.mark.parametrize("objective", ["online_dpo", "best_of_n"])
def test_online_objectives_raise_the_reward(folder: Path, objective: str) -> None:
    options = ["rl.iterations=12", "rl.prompts_per_iteration=16", "rl.optimizer.learning_rate=0.01"]
    kl = "rl.kl={coefficient: 0.1}" if objective == "online_dpo" else "rl.kl={}"
    lines = rl_metrics(folder, objective, *GROUPS, *options, f"rl.objective={objective}", kl)
    assert lines[-1]["reward/mean"] > lines[0]["reward/mean"] + 0.2


def test_importance_weights_are_limited_or_dropped_and_counted(folder: Path) -> None:
    """The weights are the probabilities of the three likeliest tokens together; the smaller half of them is dropped."""

    def weights(option: str) -> tuple[Tensor, float]:
        made = trainer(folder, *GROUPS, "rl.generation={max_new_tokens: 6, top_k: 3}", option)
        step_loss(made)
        task: Any = made.task
        return task.experience.rows.importance[task.experience.mask], task.metrics["importance_limited"]

    whole, count = weights("rl.importance_correction=9")
    assert count == 0
    low = float(whole.median())
    dropped = whole < low
    assert 0 < dropped.sum() < len(dropped)
    masked, count = weights(f"rl.importance_mask=[{low!r},5]")
    assert torch.equal(masked, whole.masked_fill(dropped, 0.0))
    assert count == pytest.approx(float(dropped.float().mean()))


def test_top_k_and_top_p_are_corrected_by_the_kept_mass(folder: Path) -> None:
    """Every token was drawn from the three most likely, so its weight is the probability of these three together."""
    options = ["rl.generation={max_new_tokens: 6, top_k: 3}", "rl.importance_correction=2.0"]
    made = trainer(folder, *GROUPS, *options)
    loss, batch = step_loss(made)
    task: Any = made.task
    rows, mask = task.experience.rows, task.experience.mask
    sampled_from = AutoModelForCausalLM.from_pretrained(folder / "runs/tiny/sft/model").double().eval()
    perturb(sampled_from)
    pairs = [(tree.prompt, response) for tree in task.experience.trees for response in tree.responses]
    for number, (prompt, response) in enumerate(pairs):
        with torch.no_grad():
            logits = sampled_from(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
        kept = logits.softmax(-1).topk(3).values.sum(-1)
        torch.testing.assert_close(rows.importance[number, : len(response)].double(), kept, atol=1e-4, rtol=1e-4)
    assert len(pairs) == len(rows.importance)
    assert task.metrics["rollout_ratio"] == pytest.approx(float(rows.importance[mask].mean()), abs=1e-6)
    numbers = numbers_of(task, batch)
    per_token = ppo_by_hand(task, batch) * rows.importance[numbers]
    value = 0.1 * _value_loss(task, batch, numbers)
    assert loss == pytest.approx(float(per_token[mask[numbers]].mean()) + value, abs=1e-5)


def _value_loss(task: Any, batch: Any, numbers: Tensor) -> float:
    rows, mask = task.experience.rows, task.experience.mask[numbers]
    with torch.no_grad(), task.roles.values(batch) as flat:
        values = to_rows(flat, batch.lengths)
    old, returns = rows.values[numbers], rows.returns[numbers]
    moved = torch.minimum(torch.maximum(values, old - 0.2), old + 0.2)
    return float(torch.maximum((values - returns) ** 2, (moved - returns) ** 2)[mask].mean() / 2)


def test_remax_subtracts_the_greedy_score(folder: Path) -> None:
    task: Any = trainer(folder, "rl.advantages=remax", "rl.scale_rewards=false", "rl.kl={coefficient: 0}").task
    task.begin_step(1)
    experience = task.experience
    task.iteration.sampler.engine.update(0)
    greedy = task.iteration.sampler.sample_greedily([[Request(tree.prompt, "", 1)] for tree in experience.trees])
    baseline = task.iteration.scorer.score(greedy).total
    expected = (experience.rows.scores - baseline)[:, None] * experience.mask
    torch.testing.assert_close(experience.rows.advantages, expected, atol=1e-5, rtol=1e-5)


def test_dynamic_sampling_replaces_prompts_without_spread(folder: Path) -> None:
    """Responses of one token: many prompts get the same response twice, and so the same score."""
    cut = ["rl.generation={max_new_tokens: 1, top_k: 2}", "rl.importance_correction=2.0"]
    short = [*cut, "rl.responses_per_prompt=2", "rl.advantages=rloo"]
    plain, dynamic = (trainer(folder, *short, f"rl.dynamic_sampling={rounds}").task for rounds in (0, 20))
    spreads = []
    for task in (plain, dynamic):
        any_task: Any = task
        any_task.begin_step(1)
        scores = any_task.experience.rows.scores.reshape(-1, 2)
        assert len(scores) == 6
        spreads.append(int((scores[:, 0] != scores[:, 1]).sum()))
    assert spreads[0] < 6
    assert spreads[1] == 6
    measured: Any = dynamic
    assert measured.metrics["prompts_drawn"] == measured.prompts.drawn > 6
    # The next iteration continues after the last prompt that was drawn, also after a restart.
    _, state = measured.checkpoint()
    assert state["prompts_drawn"] == measured.prompts.drawn


def test_masked_truncated_responses_are_not_learned(folder: Path) -> None:
    options = ["rl.mask_truncated=true", "rl.generation={max_new_tokens: 6, temperature: 1.5}", "rl.advantages=rloo"]
    made = trainer(folder, *GROUPS, *options, "rl.kl={coefficient: 0}", "rl.prompts_per_iteration=12")
    loss, batch = step_loss(made)
    task: Any = made.task
    numbers = numbers_of(task, batch)
    learned = task.experience.rows.learned[numbers]
    assert 0 < int(learned.sum()) < len(learned)
    expected = ppo_by_hand(task, batch)[task.experience.mask[numbers] & learned[:, None]].mean()
    assert loss == pytest.approx(float(expected), abs=1e-5)


def test_long_responses_are_punished_softly(folder: Path) -> None:
    plain, soft = (
        trainer(folder, *GROUPS, *settings).task
        for settings in ([], ["rl.overlong_buffer=3", "rl.overlong_penalty=2.0"])
    )
    found = []
    for task in (plain, soft):
        any_task: Any = task
        any_task.begin_step(1)
        found.append(any_task.experience)
    penalty = 2.0 * ((found[0].lengths - 3) / 3).clamp(min=0)  # the limit is 6 tokens
    assert penalty.max() == 2.0
    torch.testing.assert_close(found[0].rows.scores - found[1].rows.scores, penalty, atol=1e-6, rtol=1e-6)


def test_scores_are_clipped_before_anything_is_computed_of_them(folder: Path) -> None:
    """Also the greedy scores that ReMax subtracts."""
    options = ["rl.advantages=remax", "rl.scale_rewards=false", "rl.kl={coefficient: 0}"]
    plain, clipped = (trainer(folder, *options, *more).task for more in ([], ["rl.clip_rewards=0.2"]))
    rows, greedy = [], []
    for task in (plain, clipped):
        any_task: Any = task
        any_task.begin_step(1)
        experience = any_task.experience
        rows.append(experience.rows.scores)
        greedy.append(experience.rows.scores - experience.rows.advantages[:, 0])
    for found, whole in zip((rows[1], greedy[1]), (rows[0], greedy[0]), strict=True):
        torch.testing.assert_close(found, whole.clamp(-0.2, 0.2), atol=1e-6, rtol=1e-6)
        assert (whole.abs() > 0.2).any()
    assert (rows[0].abs() < 0.2).any()
    metrics: Any = [plain.metrics, clipped.metrics]  # type: ignore[attr-defined]
    assert metrics[0]["reward/mean"] == metrics[1]["reward/mean"]  # the metric uses the scores before any change


@pytest.mark.parametrize("placement, variance", [("reward", 1.0), ("loss", None)])
def test_advantages_keep_their_scale_with_a_kl_in_the_loss(
    folder: Path, placement: str, variance: float | None
) -> None:
    """Whitening would divide the reward but not the KL, and so change the optimum."""
    task: Any = trainer(folder, f"rl.kl={{coefficient: 0.1, placement: {placement}}}", "rl.scale_rewards=false").task
    task.begin_step(1)
    real = task.experience.rows.advantages[task.experience.mask]
    found = float(real.var(correction=0))
    assert found == pytest.approx(variance, abs=1e-3) if variance else abs(found - 1) > 0.05
