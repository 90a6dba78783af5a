"""Weights in shards: the steps, checkpoints and memory of small models in two processes, and in four."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distributed_runs import (
    held,
    local,
    rl_modules,
    take_step,
    tiny_session,
    toy,
    toy_loss,
    toy_rows,
    toy_strategy,
    whole_bytes,
)
from plaudit.errors import PlauditError
from plaudit.parallel.processes import OneProcess
from plaudit.parallel.saved_files import SavedFiles
from plaudit.runs.session import Session
from plaudit.stages.training import build_trainer
from two_processes import assert_checks_pass, run_checks


def the_steps_are_those_of_one_process(rank: int) -> None:
    count = int(os.environ["WORLD_SIZE"])
    for settings in ({"replicas": count // 2}, {"replicas": count}, {"reshard_after_forward": False}):
        model, expected = toy(), toy()
        strategy, alone = toy_strategy(model, {"kind": "fsdp2", **settings}), one_process(expected)
        for step in range(4):
            for row in toy_rows(step)[rank::count]:
                strategy.backward(toy_loss(model, [row]))
            norm = take_step(strategy)
            alone.backward(toy_loss(expected, toy_rows(step)))
            torch.testing.assert_close(norm, take_step(alone), rtol=1e-5, atol=0)
            with torch.no_grad():
                torch.testing.assert_close(model(toy_rows(9)[0]), expected(toy_rows(9)[0]), rtol=1e-5, atol=1e-6)
            with strategy.gathered(model):
                for own, other in zip(model.parameters(), expected.parameters(), strict=True):
                    torch.testing.assert_close(own.detach(), other.detach(), rtol=1e-5, atol=1e-6)


def one_process(model: nn.Module) -> Any:
    """Return the strategy of one process, in a process that is one of two."""
    from distributed_runs import CONFIG
    from plaudit.config.schema.distribution import NoDistributionConfig
    from plaudit.parallel.single import SingleStrategy
    from plaudit.training.optimization import ParameterGroup, build_optimizer

    strategy = SingleStrategy(NoDistributionConfig(), OneProcess(torch.device("cpu")))
    group = ParameterGroup(list(model.named_parameters()), CONFIG.learning_rate)
    strategy.start(model, lambda: build_optimizer([group], CONFIG), CONFIG.max_gradient_norm)
    return strategy


def weights_are_whole_in_their_own_type_where_passes_compute_in_bfloat16(rank: int) -> None:
    model, expected = toy(), toy()
    strategy = toy_strategy(model, {"kind": "fsdp2", "param_dtype": "bf16"})
    with torch.no_grad():
        row = toy_rows(0)[0]
        found = model(row.bfloat16())
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.float(), expected(row), rtol=0.05, atol=0.05)
        assert not torch.equal(found.float(), expected(row))
    with strategy.gathered(model):
        assert all(map(torch.equal, model.parameters(), expected.parameters()))
        assert torch.equal(model(row), expected(row))
    strategy.backward(model(row.bfloat16()).float().square().sum() if rank else 0 * model(row.bfloat16()).sum())
    take_step(strategy, 0.01)
    # A step of 1e-4 of a weight is lost in bfloat16.
    with strategy.gathered(model):
        pairs = zip(model.parameters(), expected.parameters(), strict=True)
        moved = [float((own - other).detach().abs().max()) for own, other in pairs]
    assert all(0 < distance < 1e-3 for distance in moved)


def a_checkpoint_holds_every_row_once_and_fits_any_number_of_processes(rank: int) -> None:
    model = toy()
    strategy = toy_strategy(model, "fsdp2")
    for step in range(3):
        strategy.backward(toy_loss(model, toy_rows(step)[rank::2]))
        take_step(strategy)
    own = {file: {name: tensor.clone() for name, tensor in its.items()} for file, its in strategy.state().items()}
    folder = Path(strategy.processes.gather(tempfile.mkdtemp())[0])  # type: ignore[attr-defined]
    for file, tensors in own.items():
        save_file(tensors, folder / f"{file}.safetensors")
    strategy.processes.wait_for_everyone()  # type: ignore[attr-defined]

    again = toy()
    resumed = toy_strategy(again, "fsdp2")
    resumed.load_state(SavedFiles(folder))
    for file, tensors in resumed.state().items():
        assert all(torch.equal(tensor, own[file][name]) for name, tensor in tensors.items())

    whole = toy()
    alone = one_process(whole)
    alone.load_state(SavedFiles(folder))
    assert not any(map(torch.equal, whole.parameters(), toy().parameters()))
    for _ in range(2):
        alone.backward(toy_loss(whole, toy_rows(5)))
        take_step(alone)
        resumed.backward(toy_loss(again, toy_rows(5)[rank::2]))
        take_step(resumed)
    with resumed.gathered(again):
        for one, other in zip(again.parameters(), whole.parameters(), strict=True):
            torch.testing.assert_close(one.detach(), other.detach(), rtol=1e-5, atol=1e-6)

    back, folder = toy(), Path(tempfile.mkdtemp())
    for file, tensors in alone.state().items():
        save_file(dict(tensors), folder / f"{file}.safetensors")
    sharded = toy_strategy(back, "fsdp2")
    sharded.load_state(SavedFiles(folder))
    with sharded.gathered(back):
        assert all(map(torch.equal, back.parameters(), whole.parameters()))
    moments = {id(parameter): state for parameter, state in alone.optimizer.state.items()}
    for parameter, other in zip(back.parameters(), whole.parameters(), strict=True):
        for key, value in sharded.optimizer.state[parameter].items():
            full = value.full_tensor() if hasattr(value, "full_tensor") else value
            assert torch.equal(full, moments[id(other)][key])


def a_step_without_a_loss_changes_nothing(rank: int) -> None:
    model = toy()
    strategy = toy_strategy(model, "fsdp2")
    assert take_step(strategy) == 0
    with strategy.gathered(model):
        assert all(map(torch.equal, model.parameters(), toy().parameters()))


def gradients_that_are_not_finite_show_in_the_norm_and_keep_the_weights(rank: int) -> None:
    model = toy()
    strategy = toy_strategy(model, "fsdp2")
    strategy.backward(toy_loss(model, toy_rows(0)) * (float("inf") if rank else 1.0))
    assert not torch.isfinite(take_step(strategy))
    with strategy.gathered(model):
        assert all(map(torch.equal, model.parameters(), toy().parameters()))


def weights_that_cannot_be_sharded_are_refused(rank: int) -> None:
    mixed = nn.ModuleDict({"both": nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2, dtype=torch.bfloat16))})
    with pytest.raises(PlauditError, match="needs weights of one type, but this model trains bfloat16 and float32;"):
        toy_strategy(mixed, "fsdp2")
    quantized = nn.Linear(2, 2)
    quantized.weight = nn.Parameter(torch.ones(2, 2, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(PlauditError, match=r"cannot shard quantized weights; remove model\.quantization"):
        toy_strategy(quantized, "fsdp2")


def every_process_holds_half_of_all_weights(rank: int) -> None:
    """Policy, reference, value model and reward model, after passes with and without gradients."""
    session = tiny_session()
    trainer = build_trainer(session, "rl")
    task: Any = trainer.task
    modules = rl_modules(trainer)
    assert_in_shards(modules, session)
    trainer.run_step(1)
    assert_in_shards(modules, session)
    policy = task.roles.module["policy"]
    with trainer.strategy.gathered(policy):
        assert held(policy)[0] == whole_bytes(policy)
        assert held(modules[1])[0] == 0
    state = trainer.strategy.optimizer.state
    moments = sum(local(value).nbytes for its in state.values() for key, value in its.items() if key != "step")
    assert session.processes.gather(moments) == [
        2 * shard for shard in session.processes.gather(held(task.roles.module)[1])
    ]


def assert_in_shards(modules: Sequence[nn.Module], session: Session) -> None:
    """Assert that the processes' shards are the whole of each module, and about half each: a head is one row."""
    for module in modules:
        whole, shard = held(module)
        shards = session.processes.gather(shard)
        assert whole == 0
        assert sum(shards) == whole_bytes(module)
        assert max(shards) < 0.51 * whole_bytes(module)


def only_the_first_replica_writes_checkpoints(rank: int) -> None:
    """Two replicas of two processes: the files are those of two processes, and every replica reads them."""
    model = toy()
    strategy = toy_strategy(model, {"kind": "fsdp2", "replicas": 2})
    strategy.backward(toy_loss(model, toy_rows(0)[rank::4]))
    take_step(strategy)
    files = strategy.processes.gather(strategy.state())  # type: ignore[attr-defined]
    assert [list(its) for its in files] == [["shard-1-of-2"], ["shard-2-of-2"], [], []]
    folder = Path(strategy.processes.gather(tempfile.mkdtemp())[0])  # type: ignore[attr-defined]
    if rank == 0:
        for file, tensors in (files[0] | files[1]).items():
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / f"{file}.safetensors")
    strategy.processes.wait_for_everyone()  # type: ignore[attr-defined]
    again = toy()
    resumed = toy_strategy(again, {"kind": "fsdp2", "replicas": 2})
    resumed.load_state(SavedFiles(folder))
    with strategy.gathered(model):
        whole = [parameter.detach().clone() for parameter in model.parameters()]
    with resumed.gathered(again):
        assert all(map(torch.equal, again.parameters(), whole))


FOUR_PROCESSES: tuple[Callable[[int], None], ...] = (
    the_steps_are_those_of_one_process,
    only_the_first_replica_writes_checkpoints,
)
CHECKS: tuple[Callable[[int], None], ...] = (
    the_steps_are_those_of_one_process,
    weights_are_whole_in_their_own_type_where_passes_compute_in_bfloat16,
    a_checkpoint_holds_every_row_once_and_fits_any_number_of_processes,
    a_step_without_a_loss_changes_nothing,
    gradients_that_are_not_finite_show_in_the_norm_and_keep_the_weights,
    weights_that_cannot_be_sharded_are_refused,
    every_process_holds_half_of_all_weights,
)


def test_small_models_in_two_processes(alone: Path) -> None:
    assert_checks_pass(__file__, CHECKS, RUN=str(alone))


def test_small_models_in_two_replicas_of_two_processes() -> None:
    assert_checks_pass(__file__, FOUR_PROCESSES, count=4)


if __name__ == "__main__":
    run_checks(CHECKS if os.environ["WORLD_SIZE"] == "2" else FOUR_PROCESSES)
