"""Values that name an entry of a catalogue, or a function of the user."""

import re
from collections.abc import Collection
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_FUNCTION = re.compile(r"[\w.]+:\w+")


class NameOf:
    """Constraint of a text: one of the names of ``entries``, one of ``others`` or, with ``functions``, a function.

    Use it as ``Annotated[str, NameOf(entries)]``. Entries that are added later count. A function is ``module:name``.
    """

    def __init__(self, entries: Collection[str], *others: str, functions: bool = False) -> None:
        self.entries, self.others, self.functions = entries, others, functions

    @property
    def choices(self) -> list[str]:
        """What may be written, in words."""
        return [*self.others, *self.entries, *(["module:function"] if self.functions else [])]

    def _check(self, name: str) -> str:
        if name in self.entries or name in self.others or (self.functions and _FUNCTION.fullmatch(name)):
            return name
        raise PydanticCustomError("literal_error", "unknown name")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))
