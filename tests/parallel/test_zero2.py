"""Sharded gradients and optimizer state: two processes give the numbers of one; exact resuming; atomic steps."""

import importlib.util
import json
import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from plaudit.config.load import load_recipe
from plaudit.config.schema import OptimizerConfig, Recipe
from plaudit.errors import PlauditError
from plaudit.parallel.strategy import OutOfMemoryElsewhereError, Strategy, build_strategy
from plaudit.runner import run
from plaudit.runs.checkpoints import save_checkpoint
from plaudit.runs.context import StageContext
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import start_session
from plaudit.training.loop import Trainer
from plaudit.training.optimization import ParameterGroup, build_optimizer, set_learning_rate
from tiny_runs import tiny_recipe
from two_processes import TwoProcesses

STAGES = ("pretrain", "sft", "reward", "rl")
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs deepspeed: pip install 'plaudit[deepspeed]'"
)


def uneven_recipe(folder: Path, **changes: Any) -> Path:
    """Return a recipe whose processes have different numbers of micro-batches, and that clips."""
    uneven: dict[str, Any] = {}
    for stage in STAGES:
        uneven[f"{stage}__token_budget"] = 64
        uneven[f"{stage}__optimizer"] = {"learning_rate": 0.003, "max_gradient_norm": 0.3}
    for stage in STAGES[:3]:
        uneven[f"{stage}__batch_size"] = 3
    return tiny_recipe(folder, rl__prompts_per_iteration=7, **uneven | changes)


def start(recipe: Path) -> TwoProcesses:
    return TwoProcesses("-m", "plaudit", "run", str(recipe), "processes=2", "distributed=zero2")


def metrics(folder: Path, stage: str) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(folder: Path, stage: str) -> dict[str, Tensor]:
    return load_file(folder / stage / "model" / "model.safetensors")


# Whole runs -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sharded")
    start(uneven_recipe(folder)).finish()
    return folder / "runs" / "tiny"


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run(load_recipe(str(uneven_recipe(tmp_path_factory.mktemp("alone")))))


@needs_deepspeed
@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_trains_as_one_process_does(sharded: Path, alone: Path, stage: str) -> None:
    expected, found = metrics(alone, stage), metrics(sharded, stage)
    assert len(expected) == len(found) > 2
    assert any(line["gradient_norm"] > 0.3 for line in expected if "gradient_norm" in line), "nothing was clipped"
    for line, other in zip(expected, found, strict=True):
        assert other == pytest.approx(line, rel=1e-3, abs=1e-4)
    trained, others = weights(alone, stage), weights(sharded, stage)
    assert trained.keys() == others.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(others[name], weight, rtol=1e-4, atol=1e-4, msg=name)


@needs_deepspeed
def test_a_run_that_is_stopped_twice_ends_with_the_same_bits(sharded: Path, tmp_path: Path) -> None:
    recipe = uneven_recipe(tmp_path)
    folder = tmp_path / "runs" / "tiny"
    stop_after_two_steps(recipe, folder / "reward", signal.SIGKILL)
    stop_after_two_steps(recipe, folder / "rl", signal.SIGTERM)
    output = start(recipe).finish()
    assert "reward: already finished" in output
    assert "rl: continuing after step" in output
    for stage in STAGES:
        assert metrics(folder, stage) == metrics(sharded, stage)
        trained, others = weights(sharded, stage), weights(folder, stage)
        assert all(torch.equal(others[name], weight) for name, weight in trained.items())


def stop_after_two_steps(recipe: Path, stage: Path, number: int) -> None:
    processes = start(recipe)
    while len(checkpoints(stage)) < 2:
        assert processes.processes[0].poll() is None
        time.sleep(0.002)
    processes.stop(number)
    assert not (stage / "result.json").exists(), "the stage was over before the signal"
    assert {path.name for path in checkpoints(stage)[-1].iterdir()} == {
        *("model.safetensors", "optimizer-1-of-2.safetensors", "optimizer-2-of-2.safetensors", "task.safetensors"),
        *("state.json", "manifest.json"),
    }


def checkpoints(stage: Path) -> list[Path]:
    return sorted((stage / "checkpoints").glob("step-" + "[0-9]" * 8))


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
        Trainer(ToyTask(StageContext(recipe.sft, session, stage))).train()  # type: ignore[arg-type]


# A model of a few numbers ---------------------------------------------------------------------------------------------


@dataclass
class ToyTask:
    """Only the parts of a task that a trainer uses before its first step."""

    context: StageContext[Any]
    module = nn.Linear(2, 1)

    def learning_rates(self) -> dict[str, float]:
        return {}


def toy(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


CONFIG = OptimizerConfig(learning_rate=0.01, max_gradient_norm=0.5, weight_decay=0.1)


def toy_update(model: nn.Module, distributed: str) -> Strategy:
    processes = 2 if distributed == "zero2" else 1
    recipe = Recipe.model_validate(
        {"name": "toy", "device": "cpu", "processes": processes, "distributed": distributed, "threads": 1}
    )
    session = start_session(recipe, RunDirectory(Path("unused")))
    group = ParameterGroup(list(model.named_parameters()), 0.01)
    return build_strategy(
        distributed, model, lambda: build_optimizer([group], CONFIG), CONFIG.max_gradient_norm, session.processes
    )


def take_step(strategy: Strategy, factor: float = 1.0) -> Tensor:
    set_learning_rate(strategy.optimizer, factor)
    return strategy.step()


def toy_loss(model: nn.Module, rows: Sequence[Tensor]) -> Tensor:
    return torch.stack([model(row.to(model[0].weight.dtype)).float().square().sum() for row in rows]).sum()  # type: ignore[index]


def toy_rows(step: int) -> list[Tensor]:
    return list(torch.randn(4, 5, generator=torch.Generator().manual_seed(step)))


def bfloat16_weights_keep_a_float32_copy(rank: int) -> None:
    """Steps of 1e-4 of a weight would be rounded away in bfloat16; the float32 shards accumulate them."""
    model, expected = toy(torch.bfloat16), toy(torch.bfloat16)
    exact = [nn.Parameter(parameter.detach().float()) for parameter in expected.parameters()]
    optimizer = torch.optim.AdamW(
        [{"params": exact[0::2], "weight_decay": 0.1}, {"params": exact[1::2], "weight_decay": 0.0}],
        lr=1e-4,
        fused=True,
    )
    update = toy_update(model, "zero2")
    saved: dict[str, dict[str, Tensor]] = {}
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
            saved = {file: {name: tensor.clone() for name, tensor in its.items()} for file, its in files.items()}
    assert any(
        not torch.equal(old, new) for old, new in zip(toy(torch.bfloat16).parameters(), model.parameters(), strict=True)
    )

    resumed = toy(torch.bfloat16)
    update.close()
    update = toy_update(resumed, "zero2")
    update.load_state(saved)
    for step in range(6, 12):
        for row in toy_rows(step)[rank::2]:
            update.backward(toy_loss(resumed, [row]))
        take_step(update, 0.01)
    assert all(map(torch.equal, model.parameters(), resumed.parameters()))


def memory_that_runs_out_in_one_process_is_news_to_both(rank: int) -> None:
    """Both processes drop their gradients; the next step equals that of one process."""
    model, expected = toy(), toy()
    update = toy_update(model, "zero2")
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
    update = toy_update(model, "zero2")
    assert take_step(update) == 0
    assert all(map(torch.equal, model.parameters(), toy().parameters()))


def gradients_that_are_no_numbers_show_in_the_norm(rank: int) -> None:
    model = toy()
    update = toy_update(model, "zero2")
    update.backward(toy_loss(model, toy_rows(0)) * (float("inf") if rank else 1.0))
    assert not torch.isfinite(take_step(update))


def parameters_that_learn_in_different_orders_are_refused(rank: int) -> None:
    """Sums over processes would silently mix up parameters of equal size."""
    model = nn.ModuleList([nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)])
    update = toy_update(model, "zero2")
    first, second = (model[0], model[1]) if rank else (model[1], model[0])
    update.backward(second(first(torch.ones(3))).sum())
    with pytest.raises(
        PlauditError, match="distributed: zero2 needs the same parameters to be trained in the same order"
    ):
        take_step(update)


def weights_of_two_types_are_refused(rank: int) -> None:
    model = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.bfloat16)])
    with pytest.raises(PlauditError, match="needs weights of one type, but this model trains bfloat16 and float32;"):
        toy_update(model, "zero2")


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
    output = TwoProcesses(__file__).finish()
    assert output.count("passed") == 2 * len(CHECKS)


if __name__ == "__main__":
    for check in CHECKS:
        print(check.__name__, flush=True)
        check(int(os.environ["RANK"]))
        print("passed", flush=True)
