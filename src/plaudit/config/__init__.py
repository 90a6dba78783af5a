"""Configuration: the schema, and reading recipes with overrides."""

from typing import TYPE_CHECKING

from plaudit.lazy import lazy_exports

if TYPE_CHECKING:
    from plaudit.config.load import dump, load_recipe, replace_references
    from plaudit.config.schema import Recipe, Section

__all__ = ["Recipe", "Section", "dump", "load_recipe", "replace_references"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {"load": ["dump", "load_recipe", "replace_references"], "schema": ["Recipe", "Section"]},
)
