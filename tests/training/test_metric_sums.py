"""Sums and maxima of metrics are the same numbers however they were added, and over all processes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from plaudit.algorithms.interface import Maximum, Mean
from plaudit.parallel.processes import ProcessGroup
from plaudit.training.metric_sums import MetricExchange, MetricSums
from trap_world import in_two_processes


def test_tensors_and_numbers_add_up_in_their_order_and_in_float64() -> None:
    generator = torch.Generator().manual_seed(0)
    totals = torch.randn(50, generator=generator)
    sums, expected = MetricSums(), 0.0
    for number, total in enumerate(totals):
        sums.add("loss", total.requires_grad_() if number % 2 else float(total), torch.tensor(3))
        expected += float(total.detach())
    sums.add_metrics({"clipped": Mean(torch.tensor([True, True, False]).sum(), 3), "ratio": Maximum(torch.tensor(1.5))})
    sums.maximum("ratio", 2)
    sums.maximum("ratio", torch.tensor(-1.0))
    sums.add("nothing", 0.0, 0)
    assert sums.sums == {"loss": (expected, 150.0), "clipped": (2.0, 3.0), "nothing": (0.0, 0.0)}
    assert sums.means() == {"loss": expected / 150, "clipped": 2 / 3, "ratio": 2.0}


def test_tensors_are_converted_together_when_a_result_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    conversions: list[int] = []
    tolist = torch.Tensor.tolist

    def counted(tensor: torch.Tensor) -> Any:
        conversions.append(tensor.numel())
        return tolist(tensor)

    monkeypatch.setattr(torch.Tensor, "tolist", counted)
    sums = MetricSums()
    for _ in range(20):
        sums.add("loss", torch.tensor(1.0), torch.tensor(2))
        sums.maximum("ratio", torch.tensor(1.0))
    assert conversions == []
    assert sums.means() == {"loss": 0.5, "ratio": 1.0}
    assert sums.means() == {"loss": 0.5, "ratio": 1.0}
    assert conversions == [60]


def test_processes_exchange_numbers_once_per_step_unless_there_are_new_names(tmp_path: Path) -> None:
    def work() -> Any:
        processes = ProcessGroup(torch.device("cpu"))
        exchange, found = MetricExchange(processes), []
        calls = {"gather": 0, "gather_numbers": 0}
        for name in calls:
            setattr(processes, name, _counting(processes, name, calls))
        for step in range(4):
            sums = MetricSums()
            if processes.rank == 0 or step:
                sums.add("loss", 1.0 + processes.rank, 2)
            if processes.rank == 1 and step == 2:
                sums.add("rare", 5.0, 4)
                sums.maximum("ratio", torch.tensor(float("nan")))
            sums.maximum("largest", -3.0 - processes.rank)
            found.append(exchange.merged(sums).means())
        return found[0], found[1], found[2]["rare"], str(found[2]["ratio"]), found[3], calls

    first, second, rare, ratio, last, calls = in_two_processes(work, tmp_path / "rendezvous")
    assert first == {"loss": 0.5, "largest": -3.0}
    assert second == last == {"loss": 0.75, "largest": -3.0}
    assert (rare, ratio) == (1.25, "nan")
    assert calls == {"gather": 2, "gather_numbers": 6}


def _counting(processes: ProcessGroup, name: str, calls: dict[str, int]) -> Any:
    method = getattr(processes, name)

    def call(*arguments: Any) -> Any:
        calls[name] += 1
        return method(*arguments)

    return call
