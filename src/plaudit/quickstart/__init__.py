"""The embedded task: a small simulated world with texts, annotators and a gold score."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.quickstart.world import make_world

__all__ = ["make_world"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"world": ["make_world"]},
)
