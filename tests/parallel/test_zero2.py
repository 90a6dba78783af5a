"""Sharded gradients and optimizer state: two processes give the numbers of one; exact resuming; atomic steps."""

import importlib.util
import signal
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from distributed_runs import (
    assert_close,
    assert_same_bits,
    metrics,
    start,
    stop_after_two_steps,
    take_step,
    toy,
    toy_loss,
    toy_rows,
    toy_strategy,
    uneven_recipe,
)
from plaudit.config.load import load_recipe
from plaudit.errors import PlauditError
from plaudit.parallel.saved_files import SavedFiles
from plaudit.parallel.strategy import OutOfMemoryElsewhereError
from plaudit.runs.checkpoints import save_checkpoint
from plaudit.runs.context import StageContext
from plaudit.runs.directory import RunDirectory
from plaudit.runs.lines import last
from plaudit.runs.session import start_session
from plaudit.training.loop import Trainer
from tiny_runs import tiny_recipe
from two_processes import assert_checks_pass, run_checks

STAGES = ("pretrain", "sft", "reward", "rl")
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed: pip install 'plaudit[deepspeed]'"
)


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    start(uneven_recipe(folder, dpo=None), "zero2").finish()
    return folder / "runs" / "tiny"


@needs_deepspeed
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_as_one_process_does(sharded: Path, alone: Path, stage: str) -> None:
    assert any(line.get("gradient_norm", 0) > 0.3 for line in metrics(alone, stage)), "nothing was clipped"
    assert_close(sharded, alone, stage)


@needs_deepspeed
def test_a_run_that_is_stopped_twice_ends_with_the_same_bits(sharded: Path, tmp_path: Path) -> None:
    recipe = uneven_recipe(tmp_path, dpo=None)
    folder = tmp_path / "runs" / "tiny"
    for stage, number in (("reward", signal.SIGKILL), ("rl", signal.SIGTERM)):
        names = stop_after_two_steps(start(recipe, "zero2"), folder / stage, number)
        shards = {f"optimizer-{rank}-of-2.safetensors" for rank in (1, 2)}
        assert names == {"model.safetensors", "task.safetensors", "state.json", "manifest.json"} | shards
    output = start(recipe, "zero2").finish()
    assert "reward: already finished" in output
    assert "rl: continuing after step" in output
    for stage in STAGES:
        assert_same_bits(folder, sharded, stage)


def test_a_checkpoint_of_two_processes_is_refused_in_one(tmp_path: Path) -> None:
    recipe = load_recipe(str(tiny_recipe(tmp_path)))
    session = start_session(recipe, RunDirectory(tmp_path / "run"))
    stage = session.run.stage("toy").create()
    assert recipe.sft is not None
    tensors: dict[str, dict[str, Tensor]] = {"model": {}, "task": {}, "optimizer-1-of-2": {}}
    save_checkpoint(stage.checkpoints, 1, tensors, {}, keep=1)
    with pytest.raises(
        PlauditError, match=r"checkpoints: written with another number of processes or another `distrib"
    ):
        last(Trainer(ToyTask(StageContext(recipe.sft, session, stage))).train())  # type: ignore[arg-type]


# A model of a few numbers ---------------------------------------------------------------------------------------------


@dataclass
class ToyTask:
    """Only the parts of a task that a trainer uses before its first step."""

    context: StageContext[Any]
    module = nn.Linear(2, 1)

    def learning_rates(self) -> dict[str, float]:
        return {}


def bfloat16_weights_keep_a_float32_copy(rank: int) -> None:
    """Steps of 1e-4 of a weight would be rounded away in bfloat16; the float32 shards accumulate them."""
    model, expected = toy(torch.bfloat16), toy(torch.bfloat16)
    exact = [nn.Parameter(parameter.detach().float()) for parameter in expected.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": exact[0::2], "weight_decay": 0.1}, {"params": exact[1::2], "weight_decay": 0.0}],
        lr=1e-4,
        fused=True,
    )
    update = toy_strategy(model, "zero2")
    for step in range(12):
        rows = toy_rows(step)
        for row in rows[rank::2]:
            update.backward(toy_loss(model, [row]))
        norm = take_step(update, 0.01)
        sums = [torch.zeros_like(parameter) for parameter in exact]
        for row in rows:
            gradients = torch.autograd.grad(toy_loss(expected, [row]), list(expected.parameters()))
            for total, gradient in zip(sums, gradients, strict=True):
                total += gradient.float()
        expected_norm = torch.nn.utils.get_total_norm(sums)
        torch.testing.assert_close(norm, expected_norm, rtol=1e-5, atol=0)
        for parameter, total in zip(exact, sums, strict=True):
            parameter.grad = total
        torch.nn.utils.clip_grads_with_norm_(exact, 0.5, expected_norm)
        optimizer.step()
        with torch.no_grad():
            for parameter, precise in zip(expected.parameters(), exact, strict=True):
                parameter.copy_(precise)
        assert all(map(torch.equal, model.parameters(), expected.parameters()))
        if step == 5:
            whole = {name: parameter.detach() for name, parameter in model.named_parameters()}
            files = {"model": whole} | update.state()
            saved = Path(tempfile.mkdtemp())
            for file, tensors in files.items():
                save_file({name: tensor.clone() for name, tensor in tensors.items()}, saved / f"{file}.safetensors")
    assert any(
        not torch.equal(old, new) for old, new in zip(toy(torch.bfloat16).parameters(), model.parameters(), strict=True)
    )

    resumed = toy(torch.bfloat16)
    update.close()
    update = toy_strategy(resumed, "zero2")
    update.load_state(SavedFiles(saved))
    for step in range(6, 12):
        for row in toy_rows(step)[rank::2]:
            update.backward(toy_loss(resumed, [row]))
        take_step(update, 0.01)
    assert all(map(torch.equal, model.parameters(), resumed.parameters()))


def memory_that_runs_out_in_one_process_is_news_to_both(rank: int) -> None:
    """Both processes drop their gradients; the next step equals that of one process."""
    model, expected = toy(), toy()
    update = toy_strategy(model, "zero2")
    rows = toy_rows(0)
    update.backward(toy_loss(model, rows[rank : rank + 1]))
    if rank == 0:
        assert update.processes.any(True)  # type: ignore[attr-defined]
    else:
        with pytest.raises(OutOfMemoryElsewhereError):
            update.backward(toy_loss(model, rows[:1]))
    update.discard()
    for row in rows[rank::2]:
        update.backward(toy_loss(model, [row]))
    norm = take_step(update)
    toy_loss(expected, rows).backward()
    expected_norm = torch.nn.utils.clip_grad_norm_(expected.parameters(), 0.5)
    torch.testing.assert_close(norm, expected_norm, rtol=1e-5, atol=0)
    matrices, vectors = list(expected.parameters())[0::2], list(expected.parameters())[1::2]
    torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=0.01
    ).step()
    for parameter, other in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=0, atol=1e-6)


def a_step_without_a_loss_changes_nothing(rank: int) -> None:
    model = toy()
    update = toy_strategy(model, "zero2")
    assert take_step(update) == 0
    assert all(map(torch.equal, model.parameters(), toy().parameters()))


def gradients_that_are_no_numbers_show_in_the_norm(rank: int) -> None:
    model = toy()
    update = toy_strategy(model, "zero2")
    update.backward(toy_loss(model, toy_rows(0)) * (float("inf") if rank else 1.0))
    assert not torch.isfinite(take_step(update))


def parameters_that_learn_in_different_orders_are_refused(rank: int) -> None:
    """Sums over processes would silently mix up parameters of equal size."""
    model = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)])
    update = toy_strategy(model, "zero2")
    first, second = (model[0], model[1]) if rank else (model[1], model[0])
    update.backward(second(first(torch.ones(3))).sum())
    with pytest.raises(
        PlauditError, match="distributed: zero2 needs the same parameters to be trained in the same order"
    ):
        take_step(update)


def weights_of_two_types_are_refused(rank: int) -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.bfloat16)])
    with pytest.raises(PlauditError, match="needs weights of one type, but this model trains bfloat16 and float32;"):
        toy_strategy(model, "zero2")


CHECKS: tuple[Callable[[int], None], ...] = (
    bfloat16_weights_keep_a_float32_copy,
    memory_that_runs_out_in_one_process_is_news_to_both,
    a_step_without_a_loss_changes_nothing,
    gradients_that_are_no_numbers_show_in_the_norm,
    parameters_that_learn_in_different_orders_are_refused,
    weights_of_two_types_are_refused,
)


@needs_deepspeed
def test_small_models_in_two_processes() -> None:
    assert_checks_pass(__file__, CHECKS)


if __name__ == "__main__":
    run_checks(CHECKS)
