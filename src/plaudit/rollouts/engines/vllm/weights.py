"""Sends a model's weights to a server, by a file that both can read."""

import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from plaudit.rollouts.engines.vllm.client import Client

SHARED_MEMORY = Path("/dev/shm")


def send_weights(
    client: Client, folder: Path, version: str, tensors: Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> None:
    """Replace the server's weights; floating-point tensors are converted to ``dtype``.

    The server checks the file before it changes the model, and pauses meanwhile. Raises PlauditError if a step fails.
    """
    from safetensors.torch import save_file

    values = {name: _portable(tensor, dtype) for name, tensor in tensors}
    file = folder / "weights.safetensors"
    save_file(values, file, metadata={"version": version})
    shapes = {name: list(value.shape) for name, value in values.items()}
    client.post("/pause?mode=wait")
    client.post("/start_weight_update")
    client.post("/update_weights", {"update_info": {"file": str(file), "version": version, "shapes": shapes}})
    client.post("/finish_weight_update", {"weight_version": version})
    reset = client.post("/reset_prefix_cache")
    if isinstance(reset, dict) and reset.get("success") is False:
        raise client.error("/reset_prefix_cache", "did not empty the cache of the old weights")
    client.post("/resume")
    file.unlink()


def transfer_folder(size: int) -> Path:
    """Return a new folder for a file of ``size`` bytes: in shared memory if there is room, which is fastest."""
    has_room = SHARED_MEMORY.is_dir() and shutil.disk_usage(SHARED_MEMORY).free > 2 * size
    return Path(tempfile.mkdtemp(prefix="plaudit-vllm-", dir=SHARED_MEMORY if has_room else None))


def _portable(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    value = tensor.detach().to("cpu", dtype if tensor.is_floating_point() else tensor.dtype)
    return value.contiguous()
