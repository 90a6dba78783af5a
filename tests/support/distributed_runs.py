"""Runs of a tiny recipe in two processes whose numbers of micro-batches differ, and toy models for strategies."""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from plaudit.config.load import load_recipe
from plaudit.config.schema import OptimizerConfig, Recipe
from plaudit.parallel.strategy import Strategy, build_strategy
from plaudit.runs.directory import RunDirectory
from plaudit.runs.session import Session, start_session
from plaudit.training.optimization import ParameterGroup, build_optimizer, set_learning_rate
from tiny_runs import tiny_recipe
from two_processes import TwoProcesses

STAGES = ("pretrain", "sft", "reward", "dpo", "rl")


def uneven_recipe(folder: Path, **changes: Any) -> Path:
    """Return a recipe whose processes have different numbers of micro-batches, and that clips."""
    uneven: dict[str, Any] = {}
    for stage in STAGES:
        uneven[f"{stage}__token_budget"] = 64
        uneven[f"{stage}__optimizer"] = {"learning_rate": 0.003, "max_gradient_norm": 0.3}
    for stage in STAGES[:4]:
        uneven[f"{stage}__batch_size"] = 3
    return tiny_recipe(folder, rl__prompts_per_iteration=7, **uneven | changes)


def start(recipe: Path, distributed: str, *overrides: str) -> TwoProcesses:
    """Run a recipe in two processes."""
    options = ["processes=2", f"distributed={distributed}", *overrides]
    return TwoProcesses("-m", "plaudit", "run", str(recipe), *options)


def metrics(folder: Path, stage: str) -> list[dict[str, float]]:
    """Return the lines of a stage's metrics without times."""
    lines = [json.loads(line) for line in (folder / stage / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def weights(folder: Path, stage: str) -> dict[str, Tensor]:
    """Return the weights of a stage's model."""
    return load_file(folder / stage / "model" / "model.safetensors")


def checkpoints(stage: Path) -> list[Path]:
    """Return a stage's complete checkpoints, oldest first."""
    return sorted((stage / "checkpoints").glob("step-" + "[0-9]" * 8))


def stop_after_two_steps(processes: TwoProcesses, stage: Path, number: int = signal.SIGKILL) -> set[str]:
    """Stop a run when a stage has two checkpoints; return the names of the newest checkpoint's files."""
    while len(checkpoints(stage)) < 2:
        assert all(process.poll() is None for process in processes.processes)
        time.sleep(0.002)
    processes.stop(number)
    assert not (stage / "result.json").exists(), "the stage was over before the signal"
    return {path.name for path in checkpoints(stage)[-1].iterdir()}


def assert_close(found: Path, expected: Path, stage: str, tolerance: float = 1e-4) -> None:
    """Assert that a stage of two runs has equal metrics and weights up to rounding."""
    lines, others = metrics(expected, stage), metrics(found, stage)
    assert len(lines) == len(others) > 2
    for line, other in zip(lines, others, strict=True):
        assert other.keys() == line.keys()
        for key, value in line.items():
            if key.endswith("accuracy") and abs(line.get(key.replace("accuracy", "margin"), 1.0)) < 1e-5:
                continue  # DPO starts at its reference, where rounding decides which response has the larger reward
            assert abs(other[key] - value) <= 10 * tolerance * abs(value) + tolerance, (line["step"], key)
    trained, found_weights = weights(expected, stage), weights(found, stage)
    assert trained.keys() == found_weights.keys()
    for name, weight in trained.items():
        torch.testing.assert_close(found_weights[name], weight, rtol=tolerance, atol=tolerance, msg=name)


def assert_same_bits(found: Path, expected: Path, stage: str) -> None:
    """Assert that a stage of two runs has the same metrics and weights."""
    assert metrics(found, stage) == metrics(expected, stage)
    trained, others = weights(expected, stage), weights(found, stage)
    assert all(torch.equal(others[name], weight) for name, weight in trained.items())


# A model of a few numbers ---------------------------------------------------------------------------------------------

CONFIG = OptimizerConfig(learning_rate=0.01, max_gradient_norm=0.5, weight_decay=0.1)


def toy(dtype: torch.dtype = torch.float32) -> nn.Sequential:
    """Return the same small model every time."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)


def toy_strategy(model: nn.Module, distributed: Any) -> Strategy:
    """Return a strategy that trains ``model`` in the processes that were started, or in one with ``none``."""
    processes = 1 if distributed == "none" else int(os.environ["WORLD_SIZE"])
    recipe = Recipe.model_validate(
        {"name": "toy", "device": "cpu", "processes": processes, "distributed": distributed, "threads": 1}
    )
    session = start_session(recipe, RunDirectory(Path("unused")))
    strategy = build_strategy(recipe.distributed, session.processes)

    def optimizer() -> torch.optim.Optimizer:
        return build_optimizer([ParameterGroup(list(model.named_parameters()), CONFIG.learning_rate)], CONFIG)

    strategy.start(model, optimizer, CONFIG.max_gradient_norm)
    return strategy


def take_step(strategy: Strategy, factor: float = 1.0) -> Tensor:
    """Take an optimizer step; return the gradient's norm."""
    set_learning_rate(strategy.optimizer, factor)
    return strategy.step()


def toy_loss(model: nn.Module, rows: Sequence[Tensor]) -> Tensor:
    """Return a sum over rows."""
    return torch.stack([model(row.to(next(model.parameters()).dtype)).float().square().sum() for row in rows]).sum()


def toy_rows(step: int) -> list[Tensor]:
    """Return the rows of a step."""
    return list(torch.randn(4, 5, generator=torch.Generator().manual_seed(step)))


# The stage ``rl`` of the tiny recipe ----------------------------------------------------------------------------------


def tiny_recipe_of_run(*overrides: str) -> Recipe:
    """Return the recipe of the finished run in the environment's ``RUN``."""
    return load_recipe(str(Path(os.environ["RUN"]).parents[1] / "recipe.yaml"), overrides)


def tiny_session() -> Session:
    """Return a session with that recipe under ``fsdp2``."""
    recipe = tiny_recipe_of_run("processes=2", "distributed=fsdp2")
    return start_session(recipe, RunDirectory(Path(os.environ["RUN"])))


def rl_modules(trainer: Any) -> list[nn.Module]:
    """Return the modules of policy and value model, of the reference and of the reward model."""
    task = trainer.task
    modules = [task.roles.module, *task.roles.frozen_modules(), *task.iteration.scorer.reward.modules]
    assert len(modules) == 3
    return modules


def held(module: nn.Module) -> tuple[int, int]:
    """Return the bytes of a module's weights in this process: of whole ones, and of shards."""
    from torch.distributed.tensor import DTensor

    parameters = list(module.parameters())
    whole = sum(parameter.nbytes for parameter in parameters if not isinstance(parameter, DTensor))
    return whole, sum(local(parameter).nbytes for parameter in parameters if isinstance(parameter, DTensor))


def whole_bytes(module: nn.Module) -> int:
    """Return the bytes of a module's weights in all processes."""
    return sum(parameter.numel() * parameter.element_size() for parameter in module.parameters())


def local(tensor: Any) -> Tensor:
    """Return this process's part of a tensor."""
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own
