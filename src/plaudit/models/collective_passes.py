"""Modules whose forward passes exchange weights between processes.

All processes must run the same number of their passes, and none can be repeated, because every pass waits for the
others. A distribution strategy registers such modules; ``inference`` then adds passes whose results are dropped.
"""

from collections.abc import Callable
from weakref import WeakKeyDictionary

from torch import nn

from plaudit.batching.trees import PromptTree
from plaudit.errors import PlauditError

Missing = Callable[[int], int]
"""Takes the number of this process's passes; returns how many more the process with the most runs. All processes call
it together."""

DUMMY = PromptTree((0,), ((0,),))
"""A tree for a pass whose results are dropped."""

_MISSING: WeakKeyDictionary[nn.Module, Missing] = WeakKeyDictionary()


def register_collective_passes(module: nn.Module, missing: Missing) -> None:
    """Mark a module whose passes exchange weights."""
    _MISSING[module] = missing


def missing_passes(module: nn.Module) -> Missing | None:
    """Return the function that was registered for a module or one inside it; None if passes exchange nothing."""
    return next((_MISSING[part] for part in module.modules() if part in _MISSING), None)


def unrepeatable_pass() -> PlauditError:
    """Return the error for running out of memory in a pass that exchanges weights."""
    return PlauditError(
        "out of memory in a forward pass, during which `distributed` exchanges weights, so it cannot be repeated. "
        "Lower token_budget, or set gradient_checkpointing=true; the run continues from its last checkpoint"
    )
