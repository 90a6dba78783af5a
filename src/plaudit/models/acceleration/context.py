"""What a forward pass tells the modules deep inside it: a context variable, because transformers passes no extras.

``hidden_states`` and the generation engine open a context around each forward pass; attention, caches and the last MLP
look it up. Every thread has its own, so models that compute at the same time do not see each other's.
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

    - ``trees``: where the trees stand that attention is computed over
    - ``read``: flat positions [n] of [rows x length] whose last hidden states are read; None: all
    - ``handed_out``: the keys that a cache layer returned last, and what it keeps for ``attend``
    - ``gathered``: while the last MLP computes what is read: unique positions [n], rows and length
    """

    trees: "TreeLayout | None" = None
    read: Tensor | None = None
    handed_out: "tuple[Tensor, CachedKeys] | None" = None
    gathered: tuple[Tensor, int, int] | None = None


_CURRENT: ContextVar[ForwardContext | None] = ContextVar("plaudit_forward_pass", default=None)


def current_context() -> ForwardContext | None:
    """Return the context of the forward pass that is under way, or None outside of any."""
    return _CURRENT.get()


@contextmanager
def forward_context(context: ForwardContext | None) -> Iterator[None]:
    """Make ``context`` the current one."""
    token = _CURRENT.set(context)
    try:
        yield
    finally:
        _CURRENT.reset(token)
