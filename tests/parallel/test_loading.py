"""Where whole weights are under ``fsdp2`` while models are loaded and saved: in the main process, on the CPU."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from distributed_runs import (
    held,
    local,
    rl_modules,
    take_step,
    tiny_recipe_of_run,
    tiny_session,
    toy,
    toy_rows,
    toy_strategy,
)
from plaudit.errors import PlauditError
from plaudit.parallel.processes import OneProcess
from plaudit.runs.session import Session
from plaudit.stages.training import build_trainer
from two_processes import assert_checks_pass, run_checks


class Held(TorchDispatchMode):
    """Measures the largest number of bytes of tensors that exist at the same time; ``meta`` tensors need none."""

    def __init__(self) -> None:
        super().__init__()
        self.storages: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, function: Any, types: Any, arguments: Any = (), options: Any = None) -> Any:
        output = function(*arguments, **(options or {}))
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and not tensor.is_meta:
                storage = local(tensor).untyped_storage()
                self.storages[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.storages = {key: held for key, held in self.storages.items() if not held[0].expired()}
        self.most = max(self.most, sum(size for _, size in self.storages.values()))
        return output


def only_the_main_process_holds_whole_models_while_they_are_loaded(rank: int) -> None:
    """Also the weights are right: those of policy, reference, value model and reward model."""
    session = tiny_session()
    with Held() as held:
        trainer = build_trainer(session, "rl")
    alone = Session(tiny_recipe_of_run(), session.run, OneProcess(torch.device("cpu")))
    expected = rl_modules(build_trainer(alone, "rl"))
    sizes = [parameter.nbytes for module in expected for parameter in module.parameters()]
    fraction = held.most / sum(sizes)
    assert fraction > 1 if rank == 0 else 0.5 < fraction < 0.75, fraction  # shards, one tensor, and small things
    for module, other in zip(rl_modules(trainer), expected, strict=True):
        roots = list(module.values()) if isinstance(module, nn.ModuleDict) else [module]
        others = list(other.values()) if isinstance(other, nn.ModuleDict) else [other]
        for root, whole in zip(roots, others, strict=True):
            assert all(map(torch.equal, root.buffers(), whole.buffers()))
            with trainer.strategy.gathered(root):
                assert all(map(torch.equal, root.parameters(), whole.parameters()))


def parameters_beside_a_sharded_module_are_those_of_the_main_process(rank: int) -> None:
    model, head = toy(), nn.Linear(3, 1)
    strategy = toy_strategy(model, "fsdp2")
    nn.init.constant_(head.weight, 5.0 + rank)
    strategy.prepare(nn.Sequential(model, head))
    assert head.weight.tolist() == [[5.0, 5.0, 5.0]]


def whole_weights_of_the_main_process_are_on_its_cpu(rank: int) -> None:
    for settings in ({}, {"param_dtype": "bf16"}, {"reshard_after_forward": False}):
        model, expected = toy(), toy()
        strategy = toy_strategy(model, {"kind": "fsdp2", **settings})
        row = toy_rows(0)[0]
        row_for_passes = row.bfloat16() if "param_dtype" in settings else row
        with torch.no_grad():
            model(row_for_passes)  # weights may stay gathered
        with strategy.gathered_in_main(model), torch.no_grad():
            whole, shard = held(model)
            assert (whole > 0, shard > 0) == ((True, False) if rank == 0 else (False, True))
            if rank == 0:
                assert torch.equal(model(row), expected(row))
                assert all(map(torch.equal, model.parameters(), expected.parameters()))
        assert held(model)[0] == 0
        strategy.backward(model(row_for_passes).float().square().sum())
        take_step(strategy)
        with strategy.gathered_in_main(model):
            assert rank or not any(map(torch.equal, model.parameters(), expected.parameters()))


def an_error_while_loading_reaches_every_process(rank: int) -> None:
    def fail(device: torch.device) -> nn.Module:
        assert rank == 0
        raise PlauditError("cannot load it")

    strategy = toy_strategy(toy(), "fsdp2")
    with pytest.raises(PlauditError, match="cannot load it"):
        strategy.load(fail)


CHECKS: tuple[Callable[[int], None], ...] = (
    parameters_beside_a_sharded_module_are_those_of_the_main_process,
    whole_weights_of_the_main_process_are_on_its_cpu,
    an_error_while_loading_reaches_every_process,
    only_the_main_process_holds_whole_models_while_they_are_loaded,
)


def test_whole_weights_are_only_where_they_are_needed(alone: Path) -> None:
    assert_checks_pass(__file__, CHECKS, RUN=str(alone))


if __name__ == "__main__":
    run_checks(CHECKS)
