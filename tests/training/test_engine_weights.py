"""Whole weights are gathered only where the engine needs them, and only while it does."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from torch import nn

from plaudit.training.engine_weights import EngineWeights

MODULE = nn.Linear(1, 1)


class Recorder:
    """A strategy and an engine that note what happens."""

    def __init__(self, computes_elsewhere: bool) -> None:
        self.computes_elsewhere = computes_elsewhere
        self.events: list[Any] = []

    @contextmanager
    def _context(self, name: str, module: nn.Module) -> Iterator[None]:
        assert module is MODULE
        self.events.append(f"{name} begins")
        yield
        self.events.append(f"{name} ends")

    def gathered(self, module: nn.Module) -> Any:
        return self._context("everywhere", module)

    def gathered_in_main(self, module: nn.Module) -> Any:
        return self._context("in main", module)

    def update(self, version: int) -> None:
        self.events.append(version)


@pytest.mark.parametrize(
    "computes_elsewhere, expected",
    [
        (False, ["everywhere begins", 3, "everywhere ends", "everywhere begins", "samples", "everywhere ends"]),
        (True, ["in main begins", 3, "in main ends", "samples"]),
    ],
)
def test_weights_are_whole_when_the_engine_reads_them(computes_elsewhere: bool, expected: list[Any]) -> None:
    both: Any = Recorder(computes_elsewhere)
    weights = EngineWeights(engine=both, strategy=both, module=MODULE)
    weights.update(3)
    with weights.generating():
        both.events.append("samples")
    assert both.events == expected
