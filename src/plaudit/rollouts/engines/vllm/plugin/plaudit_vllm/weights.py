"""Weights for the served model, from a file or the trainer. ``update_weights`` checks them, ``finish`` applies them."""

import os
import sys
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from torch._C._distributed_c10d import TCPStore
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

from .group import JOIN, Group, report_ready

INTERNAL_ERROR = 70
Entry = tuple[str, str, tuple[int, ...]]
"""Name, type and shape of a tensor."""


@dataclass
class InitInfo(WeightTransferInitInfo):
    """The trainer's process group: address, size, and the rank of this server's first worker. Without: files alone."""

    host: str = ""
    port: int = 0
    first_rank: int = 0
    size: int = 0
    seconds: float = 0


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """The tensors in the order in which they come, and the file that has them; without one they are broadcast."""

    version: str
    tensors: list[Any]
    file: str | None = None


class Transfer(WeightTransferEngine[InitInfo, UpdateInfo]):
    """Replaces all weights of the model of one worker process."""

    init_info_cls, update_info_cls = InitInfo, UpdateInfo
    supports_draft_weight_update = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.group: Group | None = None
        self.announced: UpdateInfo | None = None
        self.entries: list[Entry] | None = None

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Forget an earlier trainer; join the group of this one."""
        self.shutdown()
        if not init_info.host:
            return
        parallel = self.parallel_config
        rank = init_info.first_rank + parallel.data_parallel_index * parallel.world_size + parallel.rank
        seconds = init_info.seconds
        store = TCPStore(init_info.host, init_info.port, timeout=timedelta(seconds=seconds), wait_for_workers=False)
        report_ready(store, JOIN, rank)
        self.group = Group(store, init_info.host, rank, init_info.size, self.device, seconds=seconds)

    def start_weight_update(self) -> None:
        """Forget what an interrupted update may have left."""
        self.announced = None

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Check; the inherited method would wait for an accelerator, which a CPU build does not have."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """Check what is announced: against the file, and against the tensors of the first update."""
        entries = _sorted_entries(update_info.tensors)
        if update_info.file is not None:
            _check_file(update_info.file, update_info.version, entries)
        elif self.group is None:
            raise ValueError("the trainer broadcasts weights, but this server has joined no group")
        if self.entries is not None and self.entries != entries:
            raise ValueError(f"tensors differ from those of the first update: {_difference(entries, self.entries)}")
        self.announced, self.entries = update_info, entries

    def finish_weight_update(self) -> None:
        """Apply the weights. A model with a part of the new weights must not serve: after an error, end."""
        update, self.announced = self.announced, None
        if update is None:
            raise RuntimeError("finish_weight_update came before update_weights")
        try:
            self._apply(self._broadcast(update) if update.file is None else _read(update.file))
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(INTERNAL_ERROR)

    def _broadcast(self, update: UpdateInfo) -> Iterator[tuple[str, Tensor]]:
        assert self.group is not None
        self.group.report_ready(update.version)
        for name, dtype, shape in update.tensors:
            tensor = torch.empty(shape, dtype=getattr(torch, dtype), device=self.device)
            self.group.broadcast(tensor)
            yield name, tensor

    def _apply(self, weights: Iterator[tuple[str, Tensor]]) -> None:
        names = {name for name, _ in self.model.named_parameters()}
        initialize_layerwise_reload(self.model)
        loaded = self.model.load_weights(weights)
        finalize_layerwise_reload(self.model, self.model_config)
        self._refresh_tied_head()
        if missing := sorted(names - set(loaded)):
            raise ValueError(f"the weights lack {len(missing)} tensors of the model: {', '.join(missing[:3])}")

    def _refresh_tied_head(self) -> None:
        """Repack the output head of a CPU model that shares the embedding's weight: nothing is loaded for it."""
        from vllm.model_executor.layers.utils import dispatch_cpu_unquantized_gemm

        if not getattr(self.model.config, "tie_word_embeddings", False):
            return
        for name, layer in self.model.named_modules():
            if name.endswith("lm_head") and hasattr(layer, "cpu_linear"):
                dispatch_cpu_unquantized_gemm(layer, remove_weight=False)

    def shutdown(self) -> None:
        """Leave the group, and forget the tensors of earlier updates."""
        self.group = self.announced = self.entries = None


def _read(file: str) -> Iterator[tuple[str, Tensor]]:
    with safe_open(file, "pt") as opened:
        for name in opened.keys():  # noqa: SIM118 (not a dictionary)
            yield name, opened.get_tensor(name)


def _check_file(path: str, version: str, announced: list[Entry]) -> None:
    """Raise ValueError unless the file has this version and these tensors."""
    with safe_open(path, "pt") as file:
        if (found := (file.metadata() or {}).get("version")) != version:
            raise ValueError(f"{path} has version {found}, not {version}")
        shapes = sorted((name, tuple(file.get_slice(name).get_shape())) for name in file.keys())  # noqa: SIM118
    if shapes != (expected := [(name, shape) for name, _, shape in announced]):
        raise ValueError(f"{path}: tensors differ from those announced: {_difference(shapes, expected)}")


def _sorted_entries(tensors: list[Any]) -> list[Entry]:
    return sorted((name, dtype, tuple(shape)) for name, dtype, shape in tensors)


def _difference(found: list[Any], expected: list[Any]) -> list[Any]:
    return sorted(set(found) ^ set(expected))[:3]
