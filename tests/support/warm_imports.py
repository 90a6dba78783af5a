"""Imports what a run needs; the processes of ``forked_commands`` start after it."""

import importlib
import importlib.util
import os
import pkgutil

os.environ["DS_ACCELERATOR"] = "cpu"  # otherwise DeepSpeed prints that it found no GPU

import plaudit

for module in pkgutil.walk_packages(plaudit.__path__, "plaudit."):
    if module.name != "plaudit.__main__" and ".plugin." not in module.name:
        importlib.import_module(module.name)
for name in (
    "accelerate",
    "deepspeed",
    "numba",
    "peft",
    "torch.distributed.fsdp",
    "torch.distributed.nn.functional",
    "torch.distributed.tensor",
    "transformers.models.llama.modeling_llama",
):
    if importlib.util.find_spec(name) is not None:
        importlib.import_module(name)
