"""Runs a stage's models on trees without gradients; each process computes its shard."""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import TypeVar

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import StageConfig
from plaudit.models.inference import PACK_LENGTH, per_response, per_token
from plaudit.models.loading.models import LoadedModel
from plaudit.runs.context import StageContext
from plaudit.training.token_budget import TokenBudget

Result = TypeVar("Result")


class ModelReader:
    """Applies modules to trees within the stage's token ``budget``, in batches that suit the model ``loaded``.

    The modules compute with the weights of ``loaded`` or of a model that accepts the same batches. ``pack_length`` is
    the number of tokens per packed row; results do not depend on it.
    """

    def __init__(self, context: StageContext[StageConfig], loaded: LoadedModel, pack_length: int = PACK_LENGTH) -> None:
        self.session, self.loaded, self.pack_length = context.session, loaded, pack_length
        self.budget = TokenBudget(context.config.token_budget)

    def per_response(self, module: nn.Module, trees: Sequence[PromptTree]) -> Tensor:
        """Return what ``module`` (batch -> [R]) computes for all responses: [responses], float32 on the CPU."""
        own = self.session.processes.shard(trees)
        found = self._run(lambda positions: per_response(module, own, self.loaded, positions, self.pack_length))
        parts = found.split([len(tree.responses) for tree in own])
        return torch.cat(self.session.processes.merge_shards(parts)) if trees else found

    def per_token(
        self,
        compute: Callable[[Batch], Sequence[Tensor]],
        columns: int,
        modules: nn.Module,
        trees: Sequence[PromptTree],
    ) -> list[list[Tensor]]:
        """Return, for each tensor that ``compute`` returns, one float32 CPU tensor [length] per response.

        ``compute`` turns a batch into ``columns`` tensors [N], by ``modules``.
        """
        own = self.session.processes.shard(trees)
        sizes = [len(tree.responses) for tree in own]
        merged = []
        for column in self.of_shard(compute, modules, own) or [[]] * columns:
            parts = iter(column)
            shards = self.session.processes.merge_shards([[next(parts) for _ in range(size)] for size in sizes])
            merged.append(list(chain.from_iterable(shards)))
        return merged

    def of_shard(
        self, compute: Callable[[Batch], Sequence[Tensor]], modules: nn.Module, own: Sequence[PromptTree]
    ) -> list[list[Tensor]]:
        """Return what ``per_token`` computes for the trees of this process alone; nothing without trees."""
        return self._run(lambda positions: per_token(compute, modules, own, self.loaded, positions, self.pack_length))

    def _run(self, work: Callable[[int], Result]) -> Result:
        with self.session.autocast():
            return self.budget.run(work)
