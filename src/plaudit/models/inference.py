"""Runs models on many trees without gradients; results are in the order of the trees, regardless of packing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch, make_batches
from plaudit.batching.trees import PromptTree
from plaudit.memory import is_out_of_memory
from plaudit.models.acceleration.prepared_weights import prepared_weights
from plaudit.models.collective_passes import DUMMY, missing_passes, unrepeatable_pass
from plaudit.models.heads.policy import PolicyModule
from plaudit.models.loading.models import LoadedModel

PACK_LENGTH = 512  # tokens per packed row outside of training; results do not depend on it


def per_token(
    compute: Callable[[Batch], Sequence[Tensor]],
    modules: nn.Module,
    trees: Sequence[PromptTree],
    loaded: LoadedModel,
    token_budget: int,
    pack_length: int = PACK_LENGTH,
) -> list[list[Tensor]]:
    """Apply ``compute`` (batch -> tensors [N], by ``modules``) to all trees, in batches for the model ``loaded``.

    Returns, for each tensor that ``compute`` returns, one float32 CPU tensor [response length] per response.
    """
    columns: list[dict[int, tuple[Tensor, ...]]] = []
    for batch, tensors in _run(compute, modules, trees, loaded, token_budget, pack_length):
        columns = columns or [{} for _ in tensors]
        for column, flat in zip(columns, tensors, strict=True):
            responses = iter(flat.float().cpu().split(batch.lengths.tolist()))
            for index, tree in zip(batch.tree_indices, batch.trees, strict=True):
                column[index] = tuple(next(responses) for _ in tree.responses)
    return [[part for index in range(len(trees)) for part in column[index]] for column in columns]


def per_response(
    module: nn.Module,
    trees: Sequence[PromptTree],
    loaded: LoadedModel,
    token_budget: int,
    pack_length: int = PACK_LENGTH,
) -> Tensor:
    """Apply ``module`` (batch -> tensor [R]) to all trees; return a float32 CPU tensor [responses]."""
    found: dict[int, Tensor] = {}
    run = _run(lambda batch: (module(batch),), module, trees, loaded, token_budget, pack_length)
    for batch, (scores,) in run:
        parts = scores.float().cpu().split([len(tree.responses) for tree in batch.trees])
        found |= dict(zip(batch.tree_indices, parts, strict=True))
    return torch.cat([found[index] for index in range(len(trees))]) if found else torch.zeros(0)


def _run(
    compute: Callable[[Batch], Sequence[Tensor]],
    modules: nn.Module,
    trees: Sequence[PromptTree],
    loaded: LoadedModel,
    token_budget: int,
    pack_length: int,
) -> Iterator[tuple[Batch, Sequence[Tensor]]]:
    device = loaded.device
    # On a GPU, casting weights takes little time compared with a batch, and the copies might not fit into its memory.
    prepared = prepared_weights(modules, device) if device.type == "cpu" else nullcontext()
    builds, missing = list(make_batches(trees, loaded.layout, token_budget, pack_length)), missing_passes(modules)
    dummies = 0 if missing is None else missing(len(builds))  # before the first pass, which waits for the others
    with torch.no_grad(), prepared:
        for build in builds:
            batch = build().to(device)
            yield batch, compute(batch) if missing is None else _collectively(compute, batch)
        for _ in range(dummies):
            (build,) = make_batches([DUMMY], loaded.layout, token_budget, pack_length)
            _collectively(compute, build().to(device))


def _collectively(compute: Callable[[Batch], Sequence[Tensor]], batch: Batch) -> Sequence[Tensor]:
    try:
        return compute(batch)
    except (RuntimeError, MemoryError) as fault:
        if not is_out_of_memory(fault):
            raise
        raise unrepeatable_pass() from fault


def token_log_probabilities(
    loaded: LoadedModel,
    trees: Sequence[PromptTree],
    temperature: float,
    token_budget: int,
    autocast: AbstractContextManager[None] | None = None,
) -> list[Tensor]:
    """Return the log-probabilities of all response tokens: one float32 CPU tensor [length] per response."""
    module = PolicyModule(loaded.model)
    with autocast or nullcontext():
        columns = per_token(
            lambda batch: (module(batch, temperature).statistics.log_probabilities,),
            module,
            trees,
            loaded,
            token_budget,
        )
    return columns[0] if columns else []
