"""Every use that Plaudit makes of undocumented parts of DeepSpeed.

``check_internals`` reports what a version of DeepSpeed lacks before training starts, so that a change in DeepSpeed does
not stop a run in the middle.
"""

import importlib
import logging
import os
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from plaudit.errors import PlauditError

OPTIMIZER_ATTRIBUTES = ("all_grad_tensors", "averaged_gradients", "refresh_fp32_params", "zero_grad")
"""Attributes of ``engine.optimizer``, DeepSpeed's wrapper around the optimizer, in ZeRO stage 2."""


def import_deepspeed(device_type: str) -> Any:
    """Import DeepSpeed for a type of device."""
    if device_type == "cpu":
        os.environ["DS_ACCELERATOR"] = "cpu"  # otherwise DeepSpeed uses a GPU if there is one
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor` is deprecated", FutureWarning)
    deepspeed = importlib.import_module("deepspeed")
    if not isinstance(getattr(deepspeed.ops, "__compatible_ops__", None), dict):
        raise _missing(["ops.__compatible_ops__"])
    # Otherwise, on a CPU, DeepSpeed spends minutes compiling its own collectives instead of using torch's.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def check_internals(engine: Any) -> None:
    """Raise PlauditError if a ZeRO 2 engine lacks attributes that this module uses."""
    missing = [name for name in OPTIMIZER_ATTRIBUTES if not hasattr(engine.optimizer, name)]
    if missing:
        raise _missing(missing)


def forget_gradients(engine: Any, groups: int) -> None:
    """Drop the gradients of all parameter groups, summed or not; DeepSpeed itself drops them only in a step."""
    sharding = engine.optimizer
    sharding.zero_grad(set_to_none=True)
    for number in range(groups):
        sharding.all_grad_tensors[number] = sharding.averaged_gradients[number] = None


def refresh_shards(engine: Any) -> None:
    """Copy the model's weights into the optimizer's float32 shards."""
    engine.optimizer.refresh_fp32_params()


def _missing(names: Sequence[str]) -> PlauditError:
    return PlauditError(
        f"distributed: zero2 needs {', '.join(names)}, which DeepSpeed {version('deepspeed')} does not have; install a "
        "supported version with: pip install -U 'plaudit[deepspeed]'"
    )
