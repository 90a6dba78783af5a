"""The layouts by name. This module does not import torch, because the configuration schema reads it."""

from typing import TYPE_CHECKING

from plaudit.registry import Registry

if TYPE_CHECKING:
    from plaudit.batching.layouts.base import Layout

LAYOUTS: "Registry[Layout]" = Registry(
    "layout",
    {
        "packed": "plaudit.batching.layouts.packed:PACKED",
        "padded": "plaudit.batching.layouts.padded:PADDED",
    },
)
