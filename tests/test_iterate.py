"""Errors of a checkpoint that is written when a loop over lines of metrics is left."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

import plaudit
from plaudit.errors import PlauditError


def test_closing_raises_what_went_wrong_with_the_checkpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        try:
            yield "sft", {"step": 1}
        finally:
            raise OSError(28, "No space left on device", "checkpoint")

    monkeypatch.setattr("plaudit.runner.iterate", full_disk)
    lines = plaudit.iterate("quickstart")
    with pytest.raises(PlauditError, match=r"checkpoint.*[Nn]o space"), closing(lines):
        next(lines)
