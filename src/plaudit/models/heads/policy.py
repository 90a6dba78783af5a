"""A policy: a causal language model, with or without a value head on its trunk."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.acceleration.forward import hidden_states
from plaudit.models.heads.log_probabilities import Extras, TokenStatistics, token_statistics
from plaudit.models.heads.output_head import OutputHead
from plaudit.models.trunk import unwrapped

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class PolicyOutput:
    """A policy's statistics of a batch's response tokens; ``values`` [N] only with a value head on the trunk."""

    statistics: TokenStatistics
    values: Tensor | None


class PolicyModule(nn.Module):
    """A causal language model, optionally with a value head on its trunk.

    ``forward_methods`` are the methods of a subclass that also compute with the weights, by name.
    """

    forward_methods: Sequence[str] = ()

    def __init__(self, model: "PreTrainedModel | PeftModel", value_head: nn.Linear | None = None) -> None:
        super().__init__()
        self.model = model
        self.value_head = value_head

    def forward(self, batch: Batch, temperature: float = 1.0, extras: Extras = "none") -> PolicyOutput:
        """Return statistics and values of the response tokens [N]; a token's value is that of the state before it."""
        states = hidden_states(self.model, batch, batch.predictor_index)
        head = OutputHead.of(unwrapped(self.model))
        statistics = token_statistics(head, states, batch.targets, temperature, extras)
        values = None if self.value_head is None else self.value_head(states).squeeze(-1).float()
        return PolicyOutput(statistics, values)
