"""Reference log-probabilities of the responses that a stage reads, computed once before training and stored in a file.

A resumed run reads them from the file. The file also stores a hash of the token ids, the reference's weights and the
precision, so that log-probabilities of other data or another model are never used.
"""

import hashlib
import logging
import os
from array import array
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from plaudit.batching.batches import Batch
from plaudit.batching.ragged import to_rows
from plaudit.batching.trees import PromptTree
from plaudit.config.schema import Section
from plaudit.files import synchronize
from plaudit.models.adapters.lora import adapters_off, base_is_start
from plaudit.models.heads.policy import PolicyModule, PolicyOutput
from plaudit.permissions import follow_umask
from plaudit.runs.context import StageContext
from plaudit.training.model_reader import ModelReader

logger = logging.getLogger(__name__)

FILE = "reference.safetensors"
TREES_AT_ONCE = 4096
_COUNTS = " responses"


class SequenceModule(nn.Module):
    """A policy whose forward pass returns the summed log-probability of each response."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.policy = PolicyModule(model)

    def forward(self, batch: Batch) -> Tensor:
        """Return ``log pi(y | x)`` of every response in nats, [R], at least float32."""
        output: PolicyOutput = self.policy(batch)
        return to_rows(output.statistics.log_probabilities, batch.lengths).sum(1)


class LogProbabilities:
    """A number for each response of several trees.

    Args:
        values: of all responses, [R].
        counts: number of each tree's responses, [N].
    """

    def __init__(self, values: Tensor, counts: Tensor) -> None:
        self.values, self.counts = values, counts
        self._ends = counts.cumsum(0)

    def __getitem__(self, number: int) -> tuple[float, ...]:
        """Return the numbers of a tree's responses."""
        end = int(self._ends[number])
        return tuple(self.values[end - int(self.counts[number]) : end].tolist())


def reference_log_probabilities(
    context: StageContext[Section],
    groups: Mapping[str, Sequence[PromptTree]],
    reader: ModelReader,
    module: SequenceModule,
) -> dict[str, LogProbabilities]:
    """Return ``log pi_ref(y | x)`` of every response of every group of trees, float32 on the CPU.

    The reference is ``module``, the reader's model, without its adapters if they are new. The stage's strategy
    distributes its weights once they have been compared with those of the file.
    """
    session, model = context.session, reader.loaded.model
    path, key = context.directory.folder / FILE, ""
    kept: dict[str, LogProbabilities] | None = None
    if session.is_main:
        key = _key(groups, model, session.recipe.precision)
        kept = _read(path, key)
    kept = session.processes.gather(kept)[0]
    context.strategy.prepare(module)
    if kept is not None:
        return kept
    if session.is_main:
        logger.info(
            "%s: computing reference log-probabilities for %d prompts", context.name, sum(map(len, groups.values()))
        )
    with adapters_off(model) if base_is_start(model) else nullcontext():
        computed = {name: _computed(trees, reader, module) for name, trees in groups.items()}
    if session.is_main:
        _write(path, key, computed)
    return computed


def _computed(trees: Sequence[PromptTree], reader: ModelReader, module: SequenceModule) -> LogProbabilities:
    values, counts = [], []
    for start in range(0, max(len(trees), 1), TREES_AT_ONCE):
        part = list(trees[start : start + TREES_AT_ONCE])
        values.append(reader.per_response(module, part))
        counts += [len(tree.responses) for tree in part]
    return LogProbabilities(torch.cat(values), torch.tensor(counts, dtype=torch.int32))


def _key(groups: Mapping[str, Sequence[PromptTree]], model: Any, precision: str) -> str:
    """Return a checksum of everything that the log-probabilities depend on. They do not depend on batching."""
    checksum = hashlib.sha256(precision.encode())
    for name, trees in groups.items():
        checksum.update(f"{name} {len(trees)}".encode())
        for tree in trees:
            for tokens in (tree.prompt, *tree.responses):
                checksum.update(array("q", (len(tokens), *tokens)).tobytes())
            if tree.learned is not None:
                checksum.update(repr(tree.learned).encode())
    for name, parameter in model.named_parameters():
        if "lora_" not in name or not base_is_start(model):
            checksum.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
            checksum.update(parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return checksum.hexdigest()


def _read(path: Path, key: str) -> dict[str, LogProbabilities] | None:
    from safetensors import safe_open

    if not path.exists():
        return None
    with safe_open(path, "pt") as file:
        if file.metadata()["key"] != key:
            return None
        names = [name for name in file.keys() if not name.endswith(_COUNTS)]  # noqa: SIM118
        return {name: LogProbabilities(file.get_tensor(name), file.get_tensor(name + _COUNTS)) for name in names}


def _write(path: Path, key: str, found: dict[str, LogProbabilities]) -> None:
    from safetensors.torch import save_file

    unfinished = path.with_suffix(".unfinished")
    tensors = {name: each.values for name, each in found.items()}
    counts = {name + _COUNTS: each.counts for name, each in found.items()}
    save_file(tensors | counts, unfinished, {"key": key})
    follow_umask(unfinished)
    synchronize(unfinished)
    os.replace(unfinished, path)
    synchronize(path.parent)
