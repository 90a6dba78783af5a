"""Random numbers that depend on their purpose, not on earlier draws.

Every draw comes from a generator derived from a key such as ``(seed, "rl", step, prompt)``. So a resumed run, or a run
on more processes, draws the same numbers.
"""

import hashlib
import random
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def derived_seed(*key: int | str) -> int:
    """Return the 63-bit seed that belongs to ``key``; different keys give independent seeds."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def torch_generator(*key: int | str, device: "torch.device | str" = "cpu") -> "torch.Generator":
    """Return a torch generator seeded by ``key``."""
    import torch

    return torch.Generator(device=device).manual_seed(derived_seed(*key))


def python_generator(*key: int | str) -> random.Random:
    """Return a generator of the standard library seeded by ``key``."""
    return random.Random(derived_seed(*key))
