"""Separate weights: a model for the policy, one for the reference, and one for the values."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.heads.scalar import ValueModule
from plaudit.models.loading.models import LoadedModel
from plaudit.training.rl.roles.base import PolicyWithReference, learning_names


class SeparateRoles(PolicyWithReference):
    """Policy, reference and value share no weights."""

    def __init__(self, loaded: LoadedModel, value: ValueModule | None) -> None:
        super().__init__(loaded)
        self.module = nn.ModuleDict({"policy": PolicyModule(loaded.model)} | ({"value": value} if value else {}))

    def value_parameters(self) -> list[str]:
        """Return the names of the value model's weights."""
        return [name for name in learning_names(self.module) if name.startswith("value.")]

    @contextmanager
    def values(self, batch: Batch) -> Iterator[Tensor | None]:
        """Yield the value model's values [N]; None without one."""
        yield self.module["value"](batch) if "value" in self.module else None
