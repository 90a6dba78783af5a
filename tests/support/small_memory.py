"""Memory that runs out above a number of token positions per forward pass."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaModel


def small_memory(monkeypatch: pytest.MonkeyPatch, positions: int) -> list[int]:
    """Let Llama's trunk run out of memory above so many token positions; return the rows of all passes that succeed."""
    original = LlamaModel.forward
    rows: list[int] = []

    def forward(self: Any, input_ids: Tensor, **options: Any) -> Any:
        if input_ids.numel() > positions:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        rows.append(input_ids.shape[0])
        return original(self, input_ids=input_ids, **options)

    monkeypatch.setattr(LlamaModel, "forward", forward)
    return rows
