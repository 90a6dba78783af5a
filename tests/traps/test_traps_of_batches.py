"""Traps 6, 12, 16 and 24: results must not depend on how the work is split, and no sample may be left out.

Every test runs ``check`` on the real code, where it must pass, and on the bug, where it must fail.
"""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from plaudit.algorithms.advantages import gae
from plaudit.algorithms.kl import kl_loss, own_token_correction
from plaudit.algorithms.masking import whiten
from plaudit.algorithms.policy_losses import Clip, gspo_loss, ppo_loss
from plaudit.algorithms.rewards import clip_scores, penalize_missing_end, soft_overlong_penalty, token_rewards
from plaudit.algorithms.value_losses import clipped_value_loss
from plaudit.batching import batches
from plaudit.batching.layouts.packed import PACKED
from plaudit.models import inference
from plaudit.parallel.processes import Processes
from plaudit.training.rl import iteration
from plaudit.training.rl.iteration import Iteration
from plaudit.training.rl.objectives import MicroBatch, StepUnits, policy_objective, value_objective
from trap_world import WorkerError, close, in_the_middle, in_two_processes, same_step, step_gradients, trainer

ROLLOUTS = ["rl.prompts_per_iteration=7", "rl.generation={max_new_tokens: 8, temperature: 1.4}"]
ONE_STEP = [*ROLLOUTS, "rl.minibatches=1"]


# 6 --------------------------------------------------------------------------------------------------------------------


def own_units(part: MicroBatch, micro_batches: int) -> MicroBatch:
    """The bug: divide by the micro-batch's own units, and the sum by the number of micro-batches."""
    mask, learned = part.mask, part.learned
    tokens = int(mask.sum()), int(learned.any(1).sum()), int(learned.sum())
    units = StepUnits(len(part.batch.trees), len(mask), *tokens)
    return replace(part, units=StepUnits(*(getattr(units, field.name) * micro_batches for field in fields(units))))


def mean_of_actors(made: Any, micro_batches: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        iteration,
        "policy_objective",
        lambda config, part, *others: policy_objective(config, own_units(part, micro_batches), *others),
    )


def mean_of_critics(made: Any, micro_batches: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(
        iteration,
        "value_objective",
        lambda config, part, *others: value_objective(config, own_units(part, micro_batches), *others),
    )


@pytest.mark.parametrize("mutation, head", [(mean_of_actors, "policy"), (mean_of_critics, "value")])
def test_trap_06_micro_batches_change_neither_loss_nor_gradient(
    folder: Path, mutation: Any, head: str, monkeypatch: Any
) -> None:
    """In a mean of micro-batch means, tokens of short responses and of small micro-batches have more weight.

    Accumulated gradients in transformers' Trainer were such means until October 2024.
    """
    whole = in_the_middle(folder, *ONE_STEP)
    expected = step_gradients(whole, whole.task.experience.examples)

    def check(wrong: Callable[[Any, int, Any], None] | None) -> None:
        made = in_the_middle(folder, *ONE_STEP, "rl.token_budget=32")
        trees = made.task.experience.examples
        if wrong is not None:
            wrong(made, len(made.gradients.micro_batches(trees)), monkeypatch)
        assert len(made.gradients.micro_batches(trees)) > 2
        found = step_gradients(made, trees)
        assert any(name.startswith(head) for name in found[0])
        same_step(({name: g for name, g in found[0].items() if name.startswith(head)}, found[1]), only(expected, head))

    def only(step: Any, head: str) -> Any:
        return {name: g for name, g in step[0].items() if name.startswith(head)}, step[1]

    check(None)
    with pytest.raises(AssertionError, match=head):
        check(mutation)


OBJECTIVES = {
    "clipped per response, KL in the loss": "advantages=grpo policy_loss=gspo kl.placement=loss kl.estimator=k3",
    "per response, cut ones teach nothing": "advantages=dr_grpo aggregation=sequence_sum mask_truncated=true",
    "a mean per response": "advantages=rloo aggregation=sequence_mean mask_truncated=true entropy_coefficient=0.01",
    "pairs": "objective=online_dpo",
    "the best": "objective=best_of_n",
    "a shared trunk": "weights=shared value_model=null",
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_trap_06_for_every_objective(folder: Path, name: str) -> None:
    """Tokens, responses, prompts and pairs are counted over the whole step, and groups are never split."""
    options = ["rl.responses_per_prompt=3", *(f"rl.{option}" for option in OBJECTIVES[name].split())]
    whole = in_the_middle(folder, *ONE_STEP, *options)
    split = in_the_middle(folder, *ONE_STEP, *options, "rl.token_budget=64", "rl.pack_length=40")
    assert len(split.gradients.micro_batches(split.task.experience.examples)) > 2
    same_step(
        step_gradients(split, split.task.experience.examples), step_gradients(whole, whole.task.experience.examples)
    )


# 12 -------------------------------------------------------------------------------------------------------------------


def rewards_written_into_the_kl(scores: Tensor, kl: Tensor, mask: Tensor, coefficient: float) -> Tensor:
    """The bug: the score is added in place, to the tensor that the KL is reported from."""
    kl.mul_(-coefficient)[torch.arange(len(kl)), mask.sum(1) - 1] += scores
    return kl


def whitened_in_place(values: Tensor, mask: Tensor) -> Tensor:
    """The bug: the caller's values are whitened."""
    return values.sub_(values[mask].mean()).div_(values[mask].std(unbiased=False))


def algorithms(mask: Tensor, number: Callable[[], Tensor]) -> dict[str, Callable[[], tuple[Any, list[Any]]]]:
    """Return calls of the functions in ``algorithms`` by name, each with separate arguments."""
    scores, ended = lambda: number()[:, 0], torch.tensor([True, False, True])
    weights, clip = mask / mask.sum(), Clip(0.2, 0.3, 3.0)
    return {
        "token_rewards": lambda: (token_rewards, [scores(), number(), mask, 0.1]),
        "whiten": lambda: (whiten, [number(), mask]),
        "gae": lambda: (gae, [number(), number(), mask, 0.9, 0.8]),
        "clipped_value_loss": lambda: (clipped_value_loss, [number(), number(), number(), mask, 0.2]),
        "ppo_loss": lambda: (ppo_loss, [number(), number(), number(), weights, mask, clip]),
        "gspo_loss": lambda: (gspo_loss, [number(), number(), number(), weights, mask, clip]),
        "kl_loss": lambda: (kl_loss, [number(), number(), number(), mask, "k3"]),
        "own_token_correction": lambda: (own_token_correction, [number(), number(), mask, "k2"]),
        "clip_scores": lambda: (clip_scores, [scores(), 0.1]),
        "penalize_missing_end": lambda: (penalize_missing_end, [scores(), ended, 1.0]),
        "soft_overlong_penalty": lambda: (soft_overlong_penalty, [mask.sum(1), 4, 2]),
    }


def test_trap_12_inputs_are_not_mutated(folder: Path) -> None:
    """A tensor that is changed in place is wrong where it is read again, such as in metrics or the next epoch.

    The second of two passes over the same experience must give the first one's gradient, bit for bit.
    """
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    generator = torch.Generator().manual_seed(0)
    calls = algorithms(mask, lambda: torch.randn(mask.shape, generator=generator))

    def check(name: str, function: Callable[..., Any] | None = None) -> None:
        real, arguments = calls[name]()
        before = [argument.clone() if isinstance(argument, Tensor) else argument for argument in arguments]
        (function or real)(*arguments)
        for argument, copy in zip(arguments, before, strict=True):
            assert torch.equal(argument, copy) if isinstance(copy, Tensor) else argument == copy

    for name in calls:
        check(name)
    for name, wrong in (("token_rewards", rewards_written_into_the_kl), ("whiten", whitened_in_place)):
        with pytest.raises(AssertionError):
            check(name, wrong)

    made = in_the_middle(folder, *ONE_STEP)
    experience = made.task.experience
    before = {name: tensor.clone() for name, tensor in experience.to_tensors().items()}
    first = step_gradients(made, experience.examples)
    second = step_gradients(made, experience.examples)
    assert all(torch.equal(second[0][name], gradient) for name, gradient in first[0].items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in experience.to_tensors().items())


# 16 -------------------------------------------------------------------------------------------------------------------


def order_of_the_first_epoch(original: Callable[..., Any]) -> Callable[..., Any]:
    """The bug: shuffled once, then always the same minibatches."""
    return lambda page, experience, number: 3 * list(original(page, experience, number))[:3]


def drawn_with_replacement(original: Callable[..., Any]) -> Callable[..., Any]:
    """The bug: every minibatch is drawn again, so some responses are used twice and some never."""

    def minibatches(page: Any, experience: Any, number: int) -> Any:
        for step in range(9):
            yield list(original(page, experience, 10 * number + step))[step % 3]

    return minibatches


def the_last_one_dropped(original: Callable[..., Any]) -> Callable[..., Any]:
    """The bug: responses that do not fill a minibatch are left out."""
    return lambda *arguments: (minibatch[:2] for minibatch in original(*arguments))


@pytest.mark.parametrize("mutation", [order_of_the_first_epoch, drawn_with_replacement, the_last_one_dropped])
def test_trap_16_every_epoch_visits_every_minibatch_once(folder: Path, mutation: Any, monkeypatch: Any) -> None:
    """An epoch is a new partition of the rollouts; otherwise samples are left out or used twice.

    Seven prompts in three minibatches: the remainder must be visited too.
    """

    def check() -> None:
        made = trainer(folder, *ROLLOUTS, "rl.epochs=3", "rl.minibatches=3")
        original = made.task.losses
        visits: list[set[int]] = []

        def losses(batch: batches.Batch, targets: Any) -> Any:
            visits[-1].update(target.start for target in targets)
            return original(batch, targets)

        made.task.losses = losses
        partitions = []
        for step in range(1, made.task.steps + 1):
            visits.append(set())
            made.run_step(step)
            if step % 3 == 0:
                partitions.append([frozenset(visit) for visit in visits[-3:]])
        assert len(partitions) == 6  # two iterations of three epochs
        for minibatches in partitions:
            assert sorted(number for minibatch in minibatches for number in minibatch) == list(range(7))
        assert len({tuple(minibatches) for minibatches in partitions}) == 6

    check()
    monkeypatch.setattr(Iteration, "minibatches", mutation(Iteration.minibatches))
    with pytest.raises(AssertionError):
        check()


# 24 -------------------------------------------------------------------------------------------------------------------


def the_remainder_dropped(processes: Processes, items: Sequence[Any]) -> Sequence[Any]:
    """The bug: every process takes only as many samples as divide evenly."""
    return items[: len(items) // 2 * 2][processes.rank :: 2]


def filled_up_with_the_first(processes: Processes, items: Sequence[Any]) -> Sequence[Any]:
    """The bug: shards are made equal by repeating some samples."""
    return [*items, *items[: len(items) % 2]][processes.rank :: 2]


def _measurements(folder: Path) -> dict[str, dict[str, float]]:
    reward, rl = trainer(folder, stage="reward"), trainer(folder, *ROLLOUTS, "rl.held_out_prompts=3")
    with torch.no_grad():  # the head of a reward model has random initial weights
        reward.task.loaded.model.score.weight.copy_(torch.linspace(-1, 1, 16)[None])
    reward.task.held_out = reward.task.train[:7]
    prompts = rl.task.prompts
    rl.task.held_out.requests = [prompts.requests(tree, 1, "held out", n) for n, tree in enumerate(prompts.rows[:5])]
    sft = trainer(folder, stage="sft")
    sft.task.held_out = sft.task.train[:9]
    return {"reward": reward.task.measure(0), "rl": rl.task.measure(0), "sft": sft.task.measure(0)}


@pytest.mark.parametrize(
    "mutation, failure, sign",
    [
        # The sample that no process took has no scores.
        (the_remainder_dropped, WorkerError, "IndexError: index 16"),
        # The sample that two processes took counts twice.
        (filled_up_with_the_first, AssertionError, "held_out/preference"),
    ],
)
def test_trap_24_evaluation_drops_no_sample(
    folder: Path, mutation: Any, failure: type[Exception], sign: str, monkeypatch: Any
) -> None:
    """Odd numbers of samples over two processes: each counts once, and the numbers are those of one process.

    Loaders that drop the last batch served evaluation in OpenRLHF (until September 2026) and NeMo-RL.
    """
    alone = _measurements(folder)
    pairs = sum(
        first != second
        for example in trainer(folder, stage="reward").task.train[:7]
        for place, first in enumerate(example.target)
        for second in example.target[:place]
    )
    assert alone["reward"]["held_out/pairs"] == pairs

    def check() -> None:
        together = in_two_processes(lambda: _measurements(folder), folder / "rendezvous")
        for stage, numbers in alone.items():
            assert together[stage] == pytest.approx(numbers, rel=1e-5), stage

    check()
    monkeypatch.setattr(Processes, "shard", mutation)
    with pytest.raises(failure, match=sign):
        check()


def test_trap_24_the_last_batch_counts(folder: Path, monkeypatch: Any) -> None:
    """Every held-out response is scored, however small the last micro-batch is."""
    judge = AutoModelForSequenceClassification.from_pretrained(folder / "judge").eval()

    def check() -> None:
        made = trainer(folder, f"reward.model={folder / 'judge'}", "reward.token_budget=40", stage="reward")
        trees = [example.tree for example in made.task.train[:7]]
        assert len(list(batches.make_batches(trees, PACKED, 40, 512))) > 2
        scores = made.task.raw_scores(made.task.train[:7])
        with torch.no_grad():
            expected = [
                judge.score(judge.model(torch.tensor([tree.prompt + response])).last_hidden_state)[0, -1, 0]
                for tree in trees
                for response in tree.responses
            ]
        close(scores, torch.stack(expected))

    check()
    monkeypatch.setattr(inference, "make_batches", lambda *arguments: list(batches.make_batches(*arguments))[:-1])
    with pytest.raises(KeyError):  # a tree that was not computed has no result
        check()
