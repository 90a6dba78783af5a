"""What Plaudit uses of DeepSpeed although its documentation does not promise it; all of it stands here.

``check_internals`` says which of it a version lacks before anything is trained, so that a change in DeepSpeed is an
error at the start and not one in the middle of a run.
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
        os.environ["DS_ACCELERATOR"] = "cpu"  # it would take a GPU where there is one
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", "`torch.distributed.all_gather_into_tensor` is deprecated", FutureWarning)
    deepspeed = importlib.import_module("deepspeed")
    if not isinstance(getattr(deepspeed.ops, "__compatible_ops__", None), dict):
        raise _missing(["ops.__compatible_ops__"])
    # On a CPU DeepSpeed would compile its own collectives, for minutes, instead of using torch's process group.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    return deepspeed


def check_internals(engine: Any) -> None:
    """Raise PlauditError naming the attributes of a ZeRO 2 engine that are used here and that it lacks."""
    missing = [name for name in OPTIMIZER_ATTRIBUTES if not hasattr(engine.optimizer, name)]
    if missing:
        raise _missing(missing)


def forget_gradients(engine: Any, groups: int) -> None:
    """Drop the gradients, summed so far or not, of all parameter groups; DeepSpeed drops them in a step only."""
    sharding = engine.optimizer
    sharding.zero_grad(set_to_none=True)
    for number in range(groups):
        sharding.all_grad_tensors[number] = sharding.averaged_gradients[number] = None


def refresh_shards(engine: Any) -> None:
    """Copy the weights of the model into the optimizer's float32 shards."""
    engine.optimizer.refresh_fp32_params()


def _missing(names: Sequence[str]) -> PlauditError:
    return PlauditError(
        f"distributed: zero2 uses {', '.join(names)} of DeepSpeed, which version {version('deepspeed')} lacks; "
        "install one that Plaudit supports with: pip install -U 'plaudit[deepspeed]'"
    )
