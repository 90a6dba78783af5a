"""Shared weights: a value head on the policy's trunk."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import scalar_head
from plaudit.models.loading.models import LoadedModel
from plaudit.models.trunk import unwrapped
from plaudit.training.rl.roles.base import PolicyWithReference


class SharedRoles(PolicyWithReference):
    """One forward pass computes the policy's statistics and the values."""

    def __init__(self, loaded: LoadedModel, needs_values: bool) -> None:
        super().__init__(loaded)
        head = scalar_head(unwrapped(loaded.model).config.hidden_size).to(loaded.device) if needs_values else None
        self.module = nn.ModuleDict({"policy": PolicyModule(loaded.model, head)})

    def value_parameters(self) -> list[str]:
        """Return none: the value head shares the policy's trunk, so both have the same learning rate."""
        return []

    @contextmanager
    def values(self, batch: Batch) -> Iterator[Tensor | None]:
        """Yield None: ``policy`` returns the values."""
        yield None
