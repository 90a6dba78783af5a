"""Sums and counts of metrics, whose means do not depend on how a step was split into micro-batches and processes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from plaudit.algorithms.interface import Maximum, Mean
from plaudit.parallel.processes import Processes

Number = float | int | Tensor


class MetricSums:
    """Named sums with their counts, and named maxima.

    Tensors are converted to numbers when a result is read, all of them in one transfer: every conversion would wait for
    the device.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}
        self._maxima: dict[str, float] = {}
        self._added: list[tuple[str, Number, Number | None]] = []
        """Totals and counts in the order in which they were added; a maximum has no count."""

    def add(self, name: str, total: Number, count: Number) -> None:
        """Add ``total`` over ``count`` units to the mean called ``name``."""
        self._added.append((name, _detached(total), _detached(count)))

    def maximum(self, name: str, value: Number) -> None:
        """Keep the largest value called ``name``."""
        self._added.append((name, _detached(value), None))

    def add_metrics(self, metrics: Mapping[str, Mean | Maximum]) -> None:
        """Add the metrics that a loss returned."""
        for name, metric in metrics.items():
            if isinstance(metric, Maximum):
                self.maximum(name, metric.value)
            else:
                self.add(name, metric.total, metric.count)

    @property
    def sums(self) -> dict[str, tuple[float, float]]:
        """Total and count of every mean."""
        self._convert()
        return self._sums

    @property
    def maxima(self) -> dict[str, float]:
        """The maxima."""
        self._convert()
        return self._maxima

    def _convert(self) -> None:
        added, self._added = self._added, []
        numbers = iter(_numbers([value for _, *values in added for value in values if value is not None]))
        for name, _, count in added:
            value = next(numbers)
            if count is None:
                self._maxima[name] = max(self._maxima.get(name, value), value)
            else:
                old_total, old_count = self._sums.get(name, (0.0, 0.0))
                self._sums[name] = (old_total + value, old_count + next(numbers))

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
        self._sums = {name: (pair[0], pair[1]) for name, pair in state["sums"].items()}
        self._maxima, self._added = dict(state["maxima"]), []


class MetricExchange:
    """Merges the metrics of all processes: with one exchange of numbers as long as their names stay the same."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.names: list[str] = []
        self.maxima_names: list[str] = []

    def merged(self, own: MetricSums) -> MetricSums:
        """Return the sums over all processes and the largest maxima; all processes call this together."""
        if self.processes.count == 1:
            return own
        rows = self._rows(own)
        if any(has_new for has_new, *_ in rows):
            self._agree_on_names(own)
            rows = self._rows(own)
        merged = MetricSums()
        for _, *row in rows:
            pairs, maxima = row[: 2 * len(self.names)], row[2 * len(self.names) :]
            for name, total, count in zip(self.names, pairs[::2], pairs[1::2], strict=True):
                merged.add(name, total, count)
            for name, value in zip(self.maxima_names, maxima, strict=True):
                if value != -math.inf:
                    merged.maximum(name, value)
        return merged

    def _rows(self, own: MetricSums) -> list[list[float]]:
        return self.processes.of_data_ranks(self.processes.gather_numbers(self._row(own)))

    def _row(self, own: MetricSums) -> list[float]:
        """Return whether ``own`` has names that the processes have not agreed on, and its numbers in their order."""
        has_new = not (own.sums.keys() <= {*self.names} and own.maxima.keys() <= {*self.maxima_names})
        pairs = [number for name in self.names for number in own.sums.get(name, (0.0, 0.0))]
        return [float(has_new), *pairs, *(own.maxima.get(name, -math.inf) for name in self.maxima_names)]

    def _agree_on_names(self, own: MetricSums) -> None:
        names = self.processes.gather((list(own.sums), list(own.maxima)))
        self.names = list(dict.fromkeys([*self.names, *(name for sums, _ in names for name in sums)]))
        self.maxima_names = list(dict.fromkeys([*self.maxima_names, *(name for _, its in names for name in its)]))


def _detached(value: Number) -> Number:
    return value.detach() if isinstance(value, Tensor) else value


def _numbers(values: Sequence[Number]) -> list[float]:
    """Return all values as numbers, with one transfer per device."""
    numbers: list[float] = [math.nan if isinstance(value, Tensor) else float(value) for value in values]
    by_device: dict[torch.device, list[int]] = {}
    for index, value in enumerate(values):
        if isinstance(value, Tensor):
            by_device.setdefault(value.device, []).append(index)
    for indices in by_device.values():
        stacked = torch.stack([torch.as_tensor(values[index]).double().reshape(()) for index in indices])
        for index, number in zip(indices, stacked.tolist(), strict=True):
            numbers[index] = number
    return numbers
