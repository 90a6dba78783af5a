"""Sums and counts of metrics, whose means do not depend on how a step was split into micro-batches and processes."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from plaudit.algorithms.interface import Maximum, Mean

Number = float | int | Tensor


def _number(value: Number) -> float:
    return float(value.detach()) if isinstance(value, Tensor) else float(value)


class MetricSums:
    """Named sums with their counts, and named maxima."""

    def __init__(self) -> None:
        self.sums: dict[str, tuple[float, float]] = {}
        self.maxima: dict[str, float] = {}

    def add(self, name: str, total: Number, count: Number) -> None:
        """Add ``total`` over ``count`` units to the mean called ``name``."""
        old_total, old_count = self.sums.get(name, (0.0, 0.0))
        self.sums[name] = (old_total + _number(total), old_count + _number(count))

    def maximum(self, name: str, value: Number) -> None:
        """Keep the largest value called ``name``."""
        self.maxima[name] = max(self.maxima.get(name, _number(value)), _number(value))

    def add_metrics(self, metrics: Mapping[str, Mean | Maximum]) -> None:
        """Add the metrics that a loss returned."""
        for name, metric in metrics.items():
            if isinstance(metric, Maximum):
                self.maximum(name, metric.value)
            else:
                self.add(name, metric.total, metric.count)

    def merge(self, other: "MetricSums") -> None:
        """Add the sums and maxima of another object."""
        for name, (total, count) in other.sums.items():
            self.add(name, total, count)
        for name, value in other.maxima.items():
            self.maximum(name, value)

    def means(self) -> dict[str, float]:
        """Return sums divided by counts (without names whose count is zero) and the maxima."""
        means = {name: total / count for name, (total, count) in self.sums.items() if count}
        return means | self.maxima

    def state_dict(self) -> dict[str, Any]:
        """Return everything as plain numbers."""
        return {"sums": {name: list(pair) for name, pair in self.sums.items()}, "maxima": dict(self.maxima)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` returned."""
        self.sums = {name: (pair[0], pair[1]) for name, pair in state["sums"].items()}
        self.maxima = dict(state["maxima"])
