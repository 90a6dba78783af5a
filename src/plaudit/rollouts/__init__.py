"""Generation engines with a common protocol, and token sampling."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.rollouts.engines.base import Engine
    from plaudit.rollouts.engines.transformers import TransformersEngine
    from plaudit.rollouts.samples import Piece, Request, Sample

__all__ = ["Engine", "Piece", "Request", "Sample", "TransformersEngine"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "engines.transformers": ["TransformersEngine"],
        "engines.base": ["Engine"],
        "samples": ["Piece", "Request", "Sample"],
    },
)
