"""Weights from a safetensors file to the served model. ``update_weights`` reads and checks, ``finish`` applies."""

import os
import sys
import traceback
from dataclasses import dataclass
from typing import Any

from safetensors import safe_open
from torch import Tensor
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

INTERNAL_ERROR = 70


@dataclass
class InitInfo(WeightTransferInitInfo):
    """Nothing is needed before the first update."""


@dataclass
class UpdateInfo(WeightTransferUpdateInfo):
    """A file, and the version and shapes that it must have."""

    file: str
    version: str
    shapes: dict[str, list[int]]


class FileTransfer(WeightTransferEngine[InitInfo, UpdateInfo]):
    """Replaces all weights of the model of one worker process."""

    init_info_cls, update_info_cls = InitInfo, UpdateInfo
    supports_draft_weight_update = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.staged: list[tuple[str, Tensor]] | None = None

    def init_transfer_engine(self, init_info: InitInfo) -> None:
        """Do nothing."""

    def start_weight_update(self) -> None:
        """Forget what an interrupted update may have left."""
        self.staged = None

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Read and check; the inherited method would wait for an accelerator, which a CPU build does not have."""
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: UpdateInfo) -> None:
        """Read the file. The model does not change before it has been checked."""
        with safe_open(update_info.file, "pt") as file:
            if (version := (file.metadata() or {}).get("version")) != update_info.version:
                raise ValueError(f"{update_info.file} has version {version}, not {update_info.version}")
            weights = [(name, file.get_tensor(name)) for name in file.keys()]  # noqa: SIM118 (not a dictionary)
        announced = {(name, *shape) for name, shape in update_info.shapes.items()}
        if wrong := announced ^ {(name, *weight.shape) for name, weight in weights}:
            raise ValueError(f"{update_info.file}: tensors differ from those announced: {sorted(wrong)[:3]}")
        self.staged = weights

    def finish_weight_update(self) -> None:
        """Apply what was read. A model with a part of the new weights must not serve: after an error, end."""
        weights, self.staged = self.staged, None
        if weights is None:
            raise RuntimeError("finish_weight_update came before update_weights")
        try:
            self._apply(weights)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(INTERNAL_ERROR)

    def _apply(self, weights: list[tuple[str, Tensor]]) -> None:
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
        """Forget what was read."""
        self.staged = None
