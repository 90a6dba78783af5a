"""Reads a stage's metrics and samples line by line, and keeps only what the report shows.

A run of 100,000 steps has logs of more than 100 MB. Metrics become compact arrays; of the samples, only those shown are
kept.
"""

import hashlib
import math
import sys
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from plaudit.errors import PlauditError
from plaudit.runs.jsonl import iterate_steps

PROMPTS_SHOWN = 3
RESPONSES_SHOWN = 5
"""Of each prompt, from the first step to the last."""


@dataclass(frozen=True)
class Series:
    """One metric over the steps at which it was measured; finite values only."""

    steps: Sequence[int]
    values: Sequence[float]

    def __len__(self) -> int:
        return len(self.steps)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value read from JSON can be shown and drawn as a number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def metric_series(rows: Iterable[Mapping[str, Any]]) -> dict[str, Series]:
    """The series of each metric in ``rows``, which have a ``step``, in the order in which the metrics first appear.

    A step may have several rows: separate measurements, or a repetition after an interruption. The last value counts.
    """
    steps: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
    values: defaultdict[str, array[float]] = defaultdict(lambda: array("d"))
    for row in rows:
        for name, value in row.items():
            if name != "step":
                steps[name].append(row["step"])
                values[name].append(value if is_number(value) else math.nan)
    return {name: _in_order(steps[name], values[name]) for name in steps}


def _in_order(steps: "array[int]", values: "array[float]") -> Series:
    last = {step: index for index, step in enumerate(steps)}
    order = [last[step] for step in sorted(last) if not math.isnan(values[last[step]])]
    return Series(array("q", (steps[index] for index in order)), array("d", (values[index] for index in order)))


def shown_samples(path: Path) -> list[list[dict[str, Any]]]:
    """Of each prompt that was sampled most often, some of the samples, from the first step to the last.

    Raises:
        PlauditError: a line has no texts of prompt and response.
    """
    lines: defaultdict[bytes, array[int]] = defaultdict(lambda: array("q"))
    steps = array("q")
    for number, sample in enumerate(iterate_steps(path), start=1):
        prompt, response = sample.get("prompt"), sample.get("response")
        if not isinstance(prompt, str) or not isinstance(response, str):
            raise PlauditError(f"{path}, line {number}: has no texts of prompt and response; delete the line")
        lines[hashlib.blake2b(prompt.encode(errors="surrogatepass"), digest_size=16).digest()].append(number - 1)
        steps.append(sample["step"])
    often = sorted(lines.values(), key=len, reverse=True)[:PROMPTS_SHOWN]
    chosen = [spread_out(sorted(numbers, key=lambda number: steps[number])) for numbers in often]
    wanted = {number for numbers in chosen for number in numbers}
    kept = {number: sample for number, sample in enumerate(iterate_steps(path)) if number in wanted}
    return [[kept[number] for number in numbers] for numbers in chosen]


def spread_out(items: Sequence[int]) -> list[int]:
    """At most ``RESPONSES_SHOWN`` items at equal distances, with the first and the last."""
    count = min(len(items), RESPONSES_SHOWN)
    return [items[round(index * (len(items) - 1) / max(count - 1, 1))] for index in range(count)]
