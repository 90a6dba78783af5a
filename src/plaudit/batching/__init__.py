"""Prompt trees, and the layouts that turn them into batches."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.batching.batches import Batch, make_batches
    from plaudit.batching.layouts.base import Layout
    from plaudit.batching.trees import Example, PromptTree, Segment

__all__ = ["Batch", "Example", "Layout", "PromptTree", "Segment", "make_batches"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"batches": ["Batch", "make_batches"], "layouts.base": ["Layout"], "trees": ["Example", "PromptTree", "Segment"]},
)
