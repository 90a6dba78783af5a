"""Simulated memory that runs out above a number of token positions per forward pass."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaModel

from plaudit.models.loading import models


def small_memory(monkeypatch: pytest.MonkeyPatch, positions: int) -> list[int]:
    """Let Llama's trunk run out of memory above this many token positions; return the rows of all passes that succeed.

    The trials at loading are not limited: without memory for them no model could be loaded.
    """
    original, install = LlamaModel.forward, vars(models)["install"]
    rows: list[int] = []
    trials: list[bool] = []

    def forward(self: Any, input_ids: Tensor, **options: Any) -> Any:
        if trials:
            return original(self, input_ids=input_ids, **options)
        if input_ids.numel() > positions:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        rows.append(input_ids.shape[0])
        return original(self, input_ids=input_ids, **options)

    def install_with_room(*arguments: Any, **options: Any) -> Any:
        trials.append(True)
        found = install(*arguments, **options)
        trials.pop()
        return found

    monkeypatch.setattr(models, "install", install_with_room)

    monkeypatch.setattr(LlamaModel, "forward", forward)
    return rows
