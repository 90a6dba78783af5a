"""The distribution strategies by name. This module does not import torch, because the configuration schema reads it."""

from dataclasses import dataclass

from plaudit.registry import Registry


@dataclass(frozen=True)
class StrategyEntry:
    """A value of ``distributed``.

    ``factory`` is ``module:name`` of a ``StrategyFactory``. ``several``: whether it needs several processes; otherwise
    it needs exactly one. ``requirement`` is a package that must be installed, as in ``pip install``; ``remedy`` is the
    command that installs it.
    """

    factory: str
    summary: str
    several: bool = True
    requirement: str | None = None
    remedy: str = ""


STRATEGIES: Registry[StrategyEntry] = Registry(
    "distribution strategy",
    {
        "none": StrategyEntry("plaudit.parallel.single:SingleStrategy", "one process", several=False),
        "replicated": StrategyEntry(
            "plaudit.parallel.replicated:ReplicatedStrategy",
            "every process holds all weights, gradients and optimizer state",
        ),
        "zero2": StrategyEntry(
            "plaudit.parallel.zero2:Zero2Strategy",
            "every process holds all weights; gradients and optimizer state are sharded (DeepSpeed)",
            # Older versions ignore settings that training needs; later versions may change their internals.
            requirement="deepspeed>=0.19.6,<0.20",
            remedy="pip install -U 'plaudit[deepspeed]'",
        ),
    },
)
"""The values of ``distributed``."""
