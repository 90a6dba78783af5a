"""Sequence classifiers with one label: scores are read at the last token, values before each token."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.acceleration.forward import hidden_states
from plaudit.models.trunk import unwrapped

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


class ScoreModule(nn.Module):
    """A reward model: one score for each response."""

    def __init__(self, model: "PreTrainedModel | PeftModel") -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Return the score of every response, read at its last token, float32 [R]."""
        return _read(self.model, batch, batch.last_token_index)


class ValueModule(nn.Module):
    """A value function: one value for each response token."""

    def __init__(self, model: "PreTrainedModel | PeftModel") -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Return the value of the state before every response token, float32 [N]."""
        return _read(self.model, batch, batch.predictor_index)


def scalar_head(hidden_size: int, standard_deviation: float = 0.0) -> nn.Linear:
    """Return a head hidden -> 1 without bias, weights N(0, standard_deviation²); 0 makes it start at zero."""
    head = nn.Linear(hidden_size, 1, bias=False)
    with torch.no_grad():
        head.weight.normal_(0.0, standard_deviation) if standard_deviation else head.weight.zero_()
    return head


def _read(model: nn.Module, batch: Batch, positions: Tensor) -> Tensor:
    head: Any = unwrapped(model).score
    values: Tensor = head(hidden_states(model, batch, positions)).squeeze(-1).float()
    return values
