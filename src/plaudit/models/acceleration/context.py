"""Extra arguments of a forward pass for the modules inside a model, in a context variable.

transformers does not pass such arguments on. ``hidden_states`` and the generation engine open a context around each
forward pass; attention, caches and the last MLP look it up. Each thread has its own context, so models in different
threads do not interfere.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from plaudit.models.acceleration.cached_attention import CachedKeys
    from plaudit.models.acceleration.tree_attention import TreeLayout


@dataclass
class ForwardContext:
    """One forward pass.

    - ``trees``: the layout of the trees that attention is computed over
    - ``read``: flat positions [n] in [rows x length] whose last hidden states are used; None: all
    - ``handed_out``: the keys that a cache layer returned last, and the ``CachedKeys`` that it passes to ``attend``
    - ``gathered``: set while the last MLP runs on the positions in ``read``: unique positions [n], rows and length
    """

    trees: "TreeLayout | None" = None
    read: Tensor | None = None
    handed_out: "tuple[Tensor, CachedKeys] | None" = None
    gathered: tuple[Tensor, int, int] | None = None


_CURRENT: ContextVar[ForwardContext | None] = ContextVar("plaudit_forward_pass", default=None)


def current_context() -> ForwardContext | None:
    """Return the context of the current forward pass, or None outside a forward pass."""
    return _CURRENT.get()


@contextmanager
def forward_context(context: ForwardContext | None) -> Iterator[None]:
    """Make ``context`` the current one."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)
