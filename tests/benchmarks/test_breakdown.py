"""The parts in the table of times add up to the whole."""

from types import SimpleNamespace
from typing import Any

import breakdown
import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from plaudit.models.acceleration import tree_attention as attention
from plaudit.parallel.replicated import ReplicatedStrategy
from plaudit.training.accumulation import GradientAccumulator


def test_a_phase_does_not_count_nested_phases(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def wait(seconds: float) -> None:
        clock[0] += seconds

    def accumulate(self: Any, trees: Any) -> None:
        wait(2.0)
        ReplicatedStrategy.backward(self, self)
        ReplicatedStrategy.backward(self, self)

    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(GradientAccumulator, "accumulate", accumulate)
    monkeypatch.setattr(ReplicatedStrategy, "backward", lambda self, loss: wait(3.0))
    anything: Any = SimpleNamespace()
    with breakdown.phases() as seconds:
        GradientAccumulator.accumulate(anything, [])
    assert seconds == {"learning, forward": 2.0, "learning, backward": 6.0}
    GradientAccumulator.accumulate(anything, [])
    assert sum(seconds.values()) == 8.0  # no more after its end


def test_operators_are_sorted_into_parts_that_make_the_whole() -> None:
    states, weight = torch.randn(64, 32), torch.randn(32, 16)
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        (states @ weight).softmax(-1).sort()
    seconds, total = breakdown.parts(profiled.key_averages(), "cpu")
    assert {"products of linear layers", "softmax", "the rest"} <= set(seconds)
    assert sum(seconds.values()) == pytest.approx(total)
    assert min(seconds.values()) > 0


def test_decoding_is_seen_by_the_profiler(monkeypatch: pytest.MonkeyPatch) -> None:
    place: Any = attention
    monkeypatch.setattr(place, "decode", torch.sort)
    with breakdown.decoding_recorded(), profile(activities=[ProfilerActivity.CPU]) as profiled:
        place.decode(torch.randn(64, 64))
    seconds, _ = breakdown.parts(profiled.key_averages(), "cpu")
    assert seconds["products of attention"] > 0
    assert place.decode is torch.sort


def test_a_kernel_counts_once_with_its_operator() -> None:
    cpu, gpu = SimpleNamespace(name="CPU"), SimpleNamespace(name="CUDA")
    operator = SimpleNamespace(key="aten::mm", device_type=cpu, self_device_time_total=3e6, self_cpu_time_total=1e6)
    kernel = SimpleNamespace(key="gemm", device_type=gpu, self_device_time_total=3e6, self_cpu_time_total=0.0)
    assert breakdown.parts([operator, kernel], "cuda") == ({"products of linear layers": 3.0}, 3.0)
