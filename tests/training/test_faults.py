"""Faults in a run: numbers that are not finite, memory that runs out, training that learns nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.evaluation.statistics import proportion_interval
from plaudit.runner import run
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import start_session
from plaudit.stages.training import build_trainer
from plaudit.training.dpo import DpoTask
from plaudit.training.health_checks import warn_about_rollouts, warn_if_not_better_than_chance
from plaudit.training.reward import RewardTask
from plaudit.training.token_budget import TokenBudget
from small_memory import small_memory
from tiny_runs import tiny_recipe

FUNCTION = "rl.rewards=[{{name: mine, kind: function, function: 'faulty_rewards:{}'}}]"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a recipe in which all stages before RL are finished."""
    path = tiny_recipe(tmp_path_factory.mktemp("faults"), rl__scale_rewards=False, rl__value_model=None)
    run(load_recipe(str(path)), ["pretrain", "sft", "reward"])
    return path


@pytest.fixture(autouse=True)
def nothing_of_rl_yet(recipe: Path) -> Iterator[None]:
    yield
    folder = recipe.parent / "runs/tiny/rl"
    if folder.exists():
        folder.rename(folder.with_name(f"rl-{len(list(folder.parent.iterdir()))}"))


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("held_out", [0, 2])
def test_a_reward_that_is_nan(recipe: Path, held_out: int) -> None:
    overrides = [FUNCTION.format("not_a_number"), f"rl.held_out_prompts={held_out}"]
    overrides += [] if held_out else ["rl.evaluate_every=null"]
    with pytest.raises(
        PlauditError, match=r"'mine' gave nan for response 2 of \d to .* line \d+, .*faulty-batch-0.jsonl"
    ) as stopped:
        run(load_recipe(str(recipe), overrides), ["rl"])
    assert "\n" not in str(stopped.value)
    batch = lines_of(recipe.parent / "runs/tiny/rl/faulty-batch-0.jsonl")
    assert len(batch) == (held_out or 6)
    assert all(row["tree"]["prompt"] and row["tree"]["responses"][0] for row in batch)


@pytest.mark.parametrize("stage", ["sft", "reward", "rl"])
def test_a_loss_that_is_nan(recipe: Path, stage: str) -> None:
    trainer = prepared(recipe, stage)
    examples = trainer.task.begin_step(1)
    with torch.no_grad():
        next(iter(trainer.task.module.parameters()))[:] = float("nan")
    with pytest.raises(PlauditError, match=f"{stage}: the loss is not finite; the batch is in (.*jsonl)") as stopped:
        trainer.gradients.accumulate(examples)
    assert "\n" not in str(stopped.value)
    saved = lines_of(trainer.stage.folder / "faulty-batch-0.jsonl")
    assert sorted(row["tree"]["prompt"] for row in saved) == sorted(list(example.tree.prompt) for example in examples)


def test_a_gradient_that_is_nan(recipe: Path) -> None:
    trainer = prepared(recipe, "sft")
    parameter = next(iter(trainer.task.module.parameters()))
    before = parameter.clone()
    parameter.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(PlauditError, match=r"sft: the gradient is not finite at step 1; the batch is in .*jsonl"):
        trainer.run_step(1)
    assert torch.equal(parameter, before)
    assert len(lines_of(trainer.stage.folder / "faulty-batch-0.jsonl")) == 8


def prepared(recipe: Path, stage: str) -> Any:
    loaded = load_recipe(str(recipe))
    session = start_session(loaded, RunDirectory(recipe.parent / "runs/tiny"))
    trainer = build_trainer(session, stage)
    trainer.stage.create()
    return trainer


def test_a_learning_rate_that_blows_up(tmp_path: Path) -> None:
    recipe = tiny_recipe(tmp_path, pretrain__optimizer={"learning_rate": 1e30})
    message = r"pretrain: the (loss|gradient) is not finite.*lower optimizer\.learning_rate"
    with pytest.raises(PlauditError, match=message):
        run(load_recipe(str(recipe)), ["pretrain"])


# Memory ---------------------------------------------------------------------------------------------------------------


def test_halved_budgets_change_no_weight(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both runs end with the same bits, because the work is split in the same way once the budget is small."""
    weights: dict[str, dict[str, Tensor]] = {}
    for name, budget in (("large", 512), ("small", 64)):
        (tmp_path / name).mkdir()
        changes: dict[str, Any] = {}
        for stage in ("pretrain", "sft", "reward", "dpo", "rl"):
            changes |= {f"{stage}__token_budget": budget, f"{stage}__checkpoint_every": 100}
        generation = {"max_new_tokens": 6, "batch_size": 2}
        recipe = tiny_recipe(
            tmp_path / name, rl__generation=generation, rl__held_out_prompts=0, rl__evaluate_every=None, **changes
        )
        recipe.write_text(recipe.read_text().replace("kind: model", "kind: model\n    batch_size: 4"))
        capsys.readouterr()
        with monkeypatch.context() as patch:
            small_memory(patch, 80)
            # Packed rows are as long as the budget allows: a step that fits from the start would be rounded
            # differently.
            padded = [f"{stage}.model.layout=padded" for stage in ("pretrain", "sft", "reward", "dpo", "rl")]
            folder = run(load_recipe(str(recipe), ["rl.minibatches=1", "rl.prompts_per_iteration=12", *padded]))
        told = capsys.readouterr().err.count("the token budget is now 64;")
        # Once per stage: its preparation, its measurements and its steps share a budget.
        assert told == (5 if name == "large" else 0)
        weights[name] = {
            f"{stage}/{key}": tensor
            for stage in ("pretrain", "sft", "reward", "dpo", "rl")
            for key, tensor in load_file(folder / stage / "model/model.safetensors").items()
        }
    assert all(torch.equal(weights["small"][name], tensor) for name, tensor in weights["large"].items())


def test_memory_is_never_sufficient(recipe: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PlauditError, match="out of memory even when the token budget is 100; use a small"):
        TokenBudget(100).halve()
    small_memory(monkeypatch, 3)
    with pytest.raises(PlauditError, match=r"^rl: out of memory; use a smaller model, adapters"):
        run(load_recipe(str(recipe)), ["rl"])


# Warnings -------------------------------------------------------------------------------------------------------------

HEALTHY = {
    "reward/std": 0.5,
    "reward/mean": 1.0,
    "ended_fraction": 0.5,
    "kl": 0.1,
    "kl_error": 0.05,
    "rollout_kl": 1e-3,
}


@pytest.mark.parametrize(
    "signs, expected",
    [
        ({}, None),
        ({"reward/std": 0.0}, "every response has the same reward"),
        ({"reward/std": 7e-9, "reward/mean": 0.1}, "every response has the same reward"),
        ({"ended_fraction": 0.0}, "every response was cut at the limit"),
        ({"ended_fraction": 0.01}, None),
        ({"kl": -0.5, "kl_error": 0.1}, "the KL to the reference is -0.500, which is too far below zero"),
        ({"kl": -0.5, "kl_error": 0.1, "rollout_kl": 2e-12}, None),
        ({"kl": -0.3, "kl_error": 0.1}, None),
        ({"kl": -0.5, "kl_error": float("nan")}, None),
    ],
)
def test_warnings_about_rollouts(
    signs: dict[str, float], expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: set[str] = set()
    warn_about_rollouts(3, HEALTHY | signs, seen)
    error = capsys.readouterr().err
    assert error.startswith(f"warning: iteration 3: {expected}") if expected else error == ""
    warn_about_rollouts(4, HEALTHY | signs, seen)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "right, pairs, says",
    [
        (4, 4, "the reward model's held-out pairs are too few to tell whether it is better than chance: 100.0% of 4 "),
        (59, 100, "the reward model's held-out pairs are too few to tell"),
        (500, 1000, "the reward model is no better than chance: 50.0% of 1000 held-out pairs"),
        (2, 20, "the reward model is worse than chance: 10.0% of 20 held-out pairs"),
        (61, 100, None),
        (6, 6, None),
    ],
)
def test_a_reward_model_is_compared_with_chance_by_the_interval_of_its_accuracy(
    right: int, pairs: int, says: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of six pairs, all are right by chance in 1/64 of cases, which is below 2.5 %; of four, in 1/16."""
    warn_if_not_better_than_chance(right / pairs, *proportion_interval(right, pairs), pairs)
    error = capsys.readouterr().err
    assert error.startswith(f"warning: {says}") if says else not error


def test_a_stage_warns_once(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(load_recipe(str(recipe), [FUNCTION.format("constant"), "rl.generation.max_new_tokens=1"]), ["rl"])
    assert capsys.readouterr().err.count("every response has the same reward") == 1


@pytest.mark.parametrize("stage", ["reward", "dpo"])
def test_resuming_after_the_last_step_still_returns_the_measurement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    """Killed between the last checkpoint and the stage's result: nothing is trained, and the result is returned."""
    recipe = load_recipe(str(tiny_recipe(tmp_path)))
    run(recipe, ["pretrain", "sft"])
    task: Any = {"reward": RewardTask, "dpo": DpoTask}[stage]
    with monkeypatch.context() as patch:

        def killed(*_: Any) -> None:
            raise KeyboardInterrupt

        patch.setattr(task, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            run(recipe, [stage])
    folder = tmp_path / "runs/tiny" / stage
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    run(recipe, [stage])
    result = json.loads((folder / "result.json").read_text())
    last = json.loads(lines[-1])
    assert result["held_out/accuracy"] == pytest.approx(last["held_out/accuracy"], abs=1e-6)
    assert (folder / "metrics.jsonl").read_text().splitlines() == lines
