"""Traps 21 to 23 and 25: the first step, stale weights, resuming, and forgotten settings.

Every test runs ``check`` on the real code, where it must pass, and on the bug, where it must fail.
"""

import copy
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from plaudit.batching import batches
from plaudit.models.heads.scalar import scalar_head
from plaudit.models.loading import pretrained
from plaudit.parallel.saved_files import SavedFiles
from plaudit.parallel.state import trained_parameters
from plaudit.rollouts.engines.running_batch import RunningBatch
from plaudit.runs.checkpoints import load_checkpoint
from plaudit.training.metric_sums import MetricSums
from plaudit.training.rl.roles import build, shared
from trap_world import (
    close,
    perturb,
    plain_log_probabilities,
    prepared,
    responses_of,
    trainer,
)

ROLLOUTS = ["rl.prompts_per_iteration=7", "rl.generation={max_new_tokens: 8, temperature: 1.4}"]


# 21 -------------------------------------------------------------------------------------------------------------------


def neighbors_are_seen(task: Any, monkeypatch: Any) -> None:
    """The bug: packed sides of a comparison see each other; the reference was computed one by one."""
    causal = lambda ids, _: torch.ones(len(ids), 1, ids.shape[1], ids.shape[1], dtype=torch.bool).tril()  # noqa: E731
    monkeypatch.setattr(batches, "dense_tree_mask", causal)


def reference_per_token(task: Any, monkeypatch: Any) -> None:
    """The bug: a mean over tokens on one side of the ratio, a sum on the other."""

    def with_means(example: Any) -> Any:
        lengths = [len(response) for response in example.tree.responses]
        means = tuple(number / length for number, length in zip(example.target.reference, lengths, strict=True))
        return replace(example, target=replace(example.target, reference=means))

    monkeypatch.setattr(task, "train", list(map(with_means, task.train)))


@pytest.mark.parametrize("mutation", [neighbors_are_seen, reference_per_token])
def test_trap_21_a_fresh_dpo_loss_is_ln_2(folder: Path, mutation: Any, monkeypatch: Any) -> None:
    """Policy and reference are still one model: every log-ratio is 0, every loss ln 2, in any layout and packing.

    Dropout in one of the two, or a packed policy with a padded reference, is visible only here.
    """

    def check(wrong: Callable[[Any, Any], None] | None = None) -> None:
        for layout, lengths in (
            ("packed", ["dpo.pack_length=16"]),
            ("packed", ["dpo.pack_length=512"]),
            ("padded", []),
        ):
            start = f"dpo.model={{path: {folder / 'policy'}, layout: {layout}}}"
            made = trainer(folder, start, *lengths, stage="dpo")
            if wrong is not None:
                wrong(made.task, monkeypatch)
            numbers = made.gradients.accumulate(made.task.begin_step(1)).means()
            assert numbers["loss"] == pytest.approx(math.log(2), abs=1e-6)
            assert numbers["drift"] == pytest.approx(0.0, abs=1e-6)
            assert made.task.measure(0)["held_out/loss"] == pytest.approx(math.log(2), abs=1e-6)

    check()
    with pytest.raises(AssertionError):
        check(mutation)


# 22 -------------------------------------------------------------------------------------------------------------------


def weights_of_the_start(task: Any, monkeypatch: Any) -> None:
    """The bug: the engine has its own copy of the weights, which is never updated."""
    engine = task.iteration.sampler.engine._engine
    engine._loaded = copy.copy(engine._loaded)
    engine._loaded.model = copy.deepcopy(engine._loaded.model)


def prompts_cached_forever(task: Any, monkeypatch: Any) -> None:
    """The bug: keys and values of a prompt are kept after the weights have changed."""
    original = RunningBatch.adopt
    kept: dict[str, Any] = {}

    def adopt(batch: Any, prefilled: Any) -> Tensor:
        key = str(batch._prompts.tolist())
        return original(batch, copy.deepcopy(kept.setdefault(key, copy.deepcopy(prefilled))))

    monkeypatch.setattr(RunningBatch, "adopt", adopt)


@pytest.mark.parametrize("mutation", [weights_of_the_start, prompts_cached_forever])
@pytest.mark.parametrize("weights", ["separate", "adapters"])
def test_trap_22_a_weight_update_changes_the_rollouts(
    folder: Path, weights: str, mutation: Any, monkeypatch: Any
) -> None:
    """Rollouts must come from the current policy at every step; stale ones would be treated as its own.

    vLLM's prefix cache is kept after an update of the weights unless it is reset.
    """
    options = [*ROLLOUTS, f"rl.weights={weights}", "rl.value_model=null", "rl.optimizer.learning_rate=0.05"]

    def check(wrong: Callable[[Any, Any], None] | None = None) -> None:
        made = trainer(folder, *options, "rl.kl={coefficient: 0}")
        task, engine = made.task, made.task.iteration.sampler.engine
        engine.update(0)
        if wrong is not None:
            wrong(task, monkeypatch)
        requests = [task.prompts.requests(tree, 1, number) for number, tree in enumerate(task.prompts.rows[:7])]
        before = task.iteration.sampler.sample(requests)
        for step in range(1, task.steps_per_iteration + 1):
            made.run_step(step)
        engine.update(1)
        after = task.iteration.sampler.sample(requests)
        assert [sample.response_ids for (sample,) in after] != [sample.response_ids for (sample,) in before]
        for (sample,) in after:
            now = plain_log_probabilities(task.roles.loaded.model, sample.prompt_ids, sample.response_ids, 1.4)
            close(torch.tensor(sample.log_probabilities), now, 1e-4)

    check()
    with pytest.raises(AssertionError):
        check(mutation)


# 23 -------------------------------------------------------------------------------------------------------------------

SAVED_AFTER = 5  # in the middle of the second of three iterations of four steps
PARTS = ["controller", "reward_moments", "prompts_drawn", "metrics", "optimizer", "experience", "model"]


def _resumable(folder: Path) -> Any:
    settings = ["rl.iterations=3", "rl.scale_rewards=true", "rl.kl={coefficient: 0.1, target: 0.01, horizon: 50}"]
    return trainer(folder, *ROLLOUTS, *settings, "rl.epochs=2", "rl.minibatches=2")


def _weights(made: Any) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in trained_parameters(made.task.module).items()}


@pytest.fixture(scope="module")
def uninterrupted(folder: Path) -> dict[str, Tensor]:
    """Return the final weights of a run that has saved a checkpoint before its end."""
    made = _resumable(folder)
    for step in range(1, made.task.steps + 1):
        made.run_step(step)
        if step == SAVED_AFTER:
            made.checkpoint(step)
    return _weights(made)


@pytest.mark.parametrize("part", PARTS)
def test_trap_23_resuming_restores_all_that_the_next_step_depends_on(
    folder: Path, tmp_path: Path, uninterrupted: dict[str, Tensor], part: str
) -> None:
    """A part that is missing from a checkpoint causes a jump at every restart that no curve explains.

    The resumed run ends with the same bits; without any one of the parts it does not.
    """
    path = folder / "runs/tiny/rl/checkpoints" / f"step-{SAVED_AFTER:08d}"

    def check(missing: str | None = None) -> None:
        made, checkpoint = _resumable(folder), load_checkpoint(path, files=["task"])
        files = Path(shutil.copytree(path, tmp_path / str(missing)))
        _, fresh = made.task.checkpoint()
        state = checkpoint.state["task"]
        if missing == "metrics":
            state["metrics"]["kl"] = 0.0
        elif missing in state:
            state[missing] = fresh[missing]
        elif missing == "optimizer":
            save_file({}, files / "optimizer.safetensors")
        elif missing == "model":
            save_file(_weights(made), files / "model.safetensors")
        made.restore(checkpoint, SavedFiles(files))
        if missing == "experience":  # missing, so the experience is collected again
            made.task.prompts.drawn -= 7
            made.task.experience, made.task.metrics = made.task.iteration.collect(made.task.prompts, 1)
        for step in range(SAVED_AFTER + 1, made.task.steps + 1):
            made.run_step(step)
        for name, weight in _weights(made).items():
            assert torch.equal(weight, uninterrupted[name]), name

    check()
    with pytest.raises(AssertionError, match=r"policy\."):
        check(part)


# 25 -------------------------------------------------------------------------------------------------------------------


def dropout_of_the_saved_model(monkeypatch: Any) -> None:
    """The bug: the dropout rates of the saved model are kept."""
    monkeypatch.setattr(pretrained, "_set_dropout", lambda config, rate: None)


def epsilon_of_other_stages(monkeypatch: Any) -> None:
    """The bug: the optimizer's own default."""
    original = torch.optim.AdamW.__init__

    def init(*arguments: Any, eps: float, **others: Any) -> None:
        original(*arguments, **others)

    monkeypatch.setattr(torch.optim.AdamW, "__init__", init)


def head_as_torch_draws_it(monkeypatch: Any) -> None:
    """The bug: a new value head has random initial weights."""
    for module in (build, shared):
        monkeypatch.setattr(module, "scalar_head", lambda size: scalar_head(size, 0.2))


@pytest.mark.parametrize("mutation", [dropout_of_the_saved_model, epsilon_of_other_stages, head_as_torch_draws_it])
def test_trap_25_no_dropout_large_epsilon_values_from_zero(
    folder: Path, tmp_path: Path, mutation: Any, monkeypatch: Any
) -> None:
    """Dropout and a random value head add noise, and a small epsilon in Adam makes large steps.

    OpenAI's RLHF code uses an epsilon of 1e-5 (Huang et al. 2023); the default of optimizers is 1e-8, which turns tiny
    gradients into large steps.
    """
    prepared(tmp_path, "gpt2")
    config = (tmp_path / "policy/config.json").read_text()
    (tmp_path / "policy/config.json").write_text(config.replace('_pdrop": 0.0', '_pdrop": 0.3'))
    assert config.count('_pdrop": 0.0') == 3

    def check() -> None:
        for weights in ("shared", "separate"):
            made = trainer(tmp_path, *ROLLOUTS, f"rl.weights={weights}", "rl.value_model=null", "rl.minibatches=1")
            assert all(group["eps"] == 1e-5 for group in made.strategy.optimizer.param_groups)
            trees = made.task.begin_step(1)
            assert not made.task.experience.rows.values.any()
            assert made.gradients.accumulate(trees).means()["ratio/max"] == pytest.approx(1.0, abs=2e-6)

    check()
    mutation(monkeypatch)
    with pytest.raises(AssertionError):
        check()


def test_trap_25_on_adapters(folder: Path) -> None:
    """The value head on a shared base also starts at zero, and new adapters leave the policy equal to its reference."""
    task = trainer(folder, *ROLLOUTS, "rl.weights=adapters", "rl.value_model=null").task
    task.begin_step(1)
    assert not task.experience.rows.values.any()
    assert responses_of(task)
    assert task.metrics["kl"] == pytest.approx(0.0, abs=1e-6)
    perturb(task.module["value_head"])
    task.end_step(task.steps_per_iteration, MetricSums())
    task.begin_step(task.steps_per_iteration + 1)
    assert task.experience.rows.values.std() > 1e-3
