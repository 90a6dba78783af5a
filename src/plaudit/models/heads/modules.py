"""The modules that learn: a policy (with or without a value head) and a scalar model (reward or value)."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.heads.log_probabilities import Extras, TokenStatistics, token_statistics
from plaudit.models.heads.output_head import OutputHead
from plaudit.models.trunk import hidden_states, unwrapped


def scalar_head(hidden_size: int, standard_deviation: float = 0.0) -> nn.Linear:
    """Return a head hidden -> 1 without bias, weights N(0, standard_deviation²); 0 makes it start at zero."""
    head = nn.Linear(hidden_size, 1, bias=False)
    with torch.no_grad():
        head.weight.normal_(0.0, standard_deviation) if standard_deviation else head.weight.zero_()
    return head


@dataclass(frozen=True)
class PolicyOutput:
    """What a policy says of a batch's response tokens; ``values`` [N] only where a value head shares the trunk."""

    statistics: TokenStatistics
    values: Tensor | None


class PolicyModule(nn.Module):
    """A causal language model, and a value head on its trunk if there is one."""

    def __init__(self, model: Any, value_head: nn.Linear | None = None) -> None:
        super().__init__()
        self.model = model
        self.value_head = value_head

    def forward(self, batch: Batch, temperature: float = 1.0, extras: Extras = "none") -> PolicyOutput:
        """Return statistics (and values) of the response tokens [N]; state t is the one in front of token t."""
        states = hidden_states(self.model, batch, batch.predictor_index)
        head = OutputHead.of(unwrapped(self.model))
        statistics = token_statistics(head, states, batch.targets, temperature, extras)
        values = None if self.value_head is None else self.value_head(states).squeeze(-1).float()
        return PolicyOutput(statistics, values)


class ScalarModule(nn.Module):
    """A sequence classifier with one label, read at the last token (scores) or in front of each token (values)."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> Tensor:
        """Return the value of the state in front of every response token, [N]."""
        return self._read(batch, batch.predictor_index)

    def scores(self, batch: Batch) -> Tensor:
        """Return the score of every response, read at its last token, [R]."""
        return self._read(batch, batch.last_token_index)

    def _read(self, batch: Batch, index: Tensor) -> Tensor:
        states = hidden_states(self.model, batch, index)
        return unwrapped(self.model).score(states).squeeze(-1).float()
