"""The registries that the configuration reads although their entries are built from it: stages and layouts.

They are below all packages and import none. An entry names what to import as ``"module:attribute"``.
"""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.registries.layouts import LAYOUTS
    from plaudit.registries.stages import STAGES

__all__ = ["LAYOUTS", "STAGES"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"layouts": ["LAYOUTS"], "stages": ["STAGES"]},
)
